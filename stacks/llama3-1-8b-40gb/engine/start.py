"""Starts vLLM when it is its turn: run before `vllm serve` in the engine's own container.

Docker starts everything at once after a reboot, but engines that measure a GPU at the same time measure
each other. So this waits until Ollama holds its pinned models, takes the lock of each GPU, waits until
nobody's memory moves, and then becomes `vllm serve`. The locks stay with a small child process until the
engine answers or ends. Needs nothing but Python's standard library, 3.10 or later.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NoReturn

CONFIG = "/migrate/start.json"
REPEAT_S = 10.0  # a reason that stays the same is said again this often
SAMPLES = 3
MIB = 1024**2
RELIEF_S = 30.0  # between two attempts to bring a model back to the GPU
STILL_MIB = 32  # changes of free memory below this are nobody loading anything


class GaveUp(Exception):
    """A wait that took longer than it may."""


def say(text: str) -> None:
    """Print a line of ours among vLLM's."""
    print(f"migrate: {text}", flush=True)


class Waiting:
    """Says what is waited for, and for how long; all waits share one deadline."""

    def __init__(self, limit_s: float, poll_s: float) -> None:
        self._began = time.monotonic()
        self._limit = limit_s
        self._poll = poll_s
        self._reason = ""
        self._said = 0.0

    def pause(self, reason: str) -> None:
        """Say the reason when it is new or some time has passed, then sleep; raises GaveUp at the deadline."""
        now = time.monotonic()
        spent = now - self._began
        if reason != self._reason or now - self._said >= REPEAT_S:
            say(f"waiting for {reason}, {spent:.0f} s")
            self._reason, self._said = reason, now
        if spent > self._limit:
            raise GaveUp(f"gave up after {spent:.0f} s of waiting for {reason}")
        time.sleep(self._poll)


def fetch(url: str) -> Any:
    """Return the JSON at a URL; raises OSError or ValueError."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.loads(answer.read())


def canonical(name: str) -> str:
    """Return the one spelling of a model name, as Ollama compares them."""
    name = name.strip().lower().removeprefix("registry.ollama.ai/").removeprefix("library/")
    return name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"


def missing(pinned: list[str], running: Any, accelerator: str) -> str:
    """Return what Ollama still has to do, in words; empty when it holds every pinned model."""
    loaded = {canonical(entry["name"]): entry for entry in running.get("models") or []}
    for name in pinned:
        entry = loaded.get(canonical(name))
        if entry is None:
            return f"Ollama to load {name}"
        if accelerator == "nvidia" and entry["size_vram"] != entry["size"]:
            share = 100 * entry["size_vram"] // max(entry["size"], 1)
            return f"Ollama to hold all of {name} on the GPU ({share} % of it is there)"
    return ""


def wait_for_ollama(config: dict[str, Any], waiting: Waiting) -> None:
    """Return when Ollama holds its pinned models; nothing pinned, nothing to wait for."""
    relief = Relief(config)
    while config["pinned"]:
        try:
            running = fetch(config["ollama"] + "/api/ps")
            reason = missing(config["pinned"], running, config["accelerator"])
            if reason:
                relief.give(running)
        except (OSError, ValueError, KeyError) as error:
            reason = f"Ollama to answer ({type(error).__name__})"
        if not reason:
            return
        waiting.pause(reason)


class Relief:
    """Brings a spilled model back to the GPU: Ollama never moves one that it has loaded.

    After a crash Ollama may load before the driver has taken back what the dead engine held. Once there is
    room for the missing part, the model is unloaded; the preloader of the stack loads it again.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self._next = 0.0

    def give(self, running: Any) -> None:
        """Unload one spilled pinned model if the rest of it would fit now, at most every RELIEF_S seconds."""
        if self._config["accelerator"] != "nvidia" or time.monotonic() < self._next:
            return
        pinned = {canonical(name) for name in self._config["pinned"]}
        spilled = {
            entry["name"]: entry["size"] - entry["size_vram"]
            for entry in running.get("models") or []
            if canonical(entry["name"]) in pinned and entry["size_vram"] != entry["size"]
        }
        for name, lacking in spilled.items():
            if sum(free_memory()) * MIB > lacking:
                self._next = time.monotonic() + RELIEF_S
                say(f"there is room for all of {name} now: asking Ollama to load it anew")
                self._unload(name)
                return

    def _unload(self, name: str) -> None:
        try:
            self._post("/api/generate", {"model": name, "keep_alive": 0})
        except urllib.error.HTTPError:  # an embedding model does not generate
            self._post("/api/embed", {"model": name, "input": "ping", "keep_alive": 0})

    def _post(self, path: str, body: dict[str, Any]) -> None:
        request = urllib.request.Request(self._config["ollama"] + path, json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()


def lock_gpus(config: dict[str, Any], waiting: Waiting) -> list[int]:
    """Take the lock of each GPU, in one order for everybody; return the open files that hold them."""
    folder = Path(config["lock_dir"])
    folder.mkdir(parents=True, exist_ok=True)
    held = []
    for gpu in sorted(config["gpus"]):
        path = folder / f"gpu-{re.sub(r'[^A-Za-z0-9-]', '-', gpu)}.lock"
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        while not locked(handle):
            holder = os.pread(handle, 200, 0).decode("utf-8", "replace") or "another engine"
            waiting.pause(f"GPU {gpu}: {holder} is starting")
        os.ftruncate(handle, 0)
        os.pwrite(handle, config.get("name", socket.gethostname()).encode(), 0)
        held.append(handle)
    return held


def locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def free_memory() -> list[int]:
    """Return free MiB of each GPU that this container sees; raises OSError or ValueError."""
    command = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise OSError(f"nvidia-smi: exit {done.returncode} {done.stderr.strip()[:100]}")
    return [int(line) for line in done.stdout.split()]


def wait_for_stillness(config: dict[str, Any], waiting: Waiting) -> None:
    """Return when the free memory of the GPUs has stayed the same for some samples."""
    if config["accelerator"] != "nvidia" or not config["gpus"]:
        return
    seen: list[list[int]] = []
    while True:
        try:
            seen = [*seen, free_memory()][-SAMPLES:]
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            say(f"GPU memory cannot be read, going on: {error}")
            return
        if len(seen) == SAMPLES and still(seen):
            say(f"free GPU memory {', '.join(map(str, seen[-1]))} MiB")
            return
        waiting.pause("GPU memory to be stable")


def still(samples: list[list[int]]) -> bool:
    """Tell whether every GPU shows about the same in all samples; a GPU that comes or goes is no stillness."""
    if len({len(sample) for sample in samples}) != 1:
        return False
    return all(max(values) - min(values) <= STILL_MIB for values in zip(*samples, strict=True))


def keep_until_ready(ready: str, engine: int, poll_s: float) -> None:
    """Return when the engine answers 200 or has ended."""
    while alive(engine):
        with contextlib.suppress(OSError, ValueError), urllib.request.urlopen(ready, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(poll_s)


def alive(process: int) -> bool:
    """Tell whether a process runs; one that has ended and waits to be collected does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


def leave_keeper(config: dict[str, Any], poll_s: float) -> None:
    """Fork the process that keeps the locks; it is nobody's child, so that nobody has to wait for it."""
    engine = os.getpid()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with contextlib.suppress(Exception):
        keep_until_ready(config["ready"], engine, poll_s)
    os._exit(0)


def terminate(*_: object) -> NoReturn:
    sys.exit(143)


def main(arguments: list[str]) -> int:
    """Wait, then become `vllm serve`; 143 when told to stop while waiting, 1 when a wait takes too long."""
    signal.signal(signal.SIGTERM, terminate)
    config = json.loads(Path(os.environ.get("MIGRATE_START_CONFIG", CONFIG)).read_text())
    poll_s = float(config.get("poll_s", 1.0))
    waiting = Waiting(float(config["timeout_s"]), poll_s)
    try:
        wait_for_ollama(config, waiting)
        held = lock_gpus(config, waiting)
        wait_for_ollama(config, waiting)  # much may have happened while others had their turn
        wait_for_stillness(config, waiting)
    except GaveUp as error:
        say(str(error))
        return 1
    if held:
        leave_keeper(config, poll_s)
    say("starting vllm serve")
    try:
        os.execvp("vllm", ["vllm", "serve", *arguments])
    except OSError as error:
        say(f"vllm cannot be started: {error}")
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
