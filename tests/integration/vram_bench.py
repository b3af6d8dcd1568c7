"""A machine with one virtual GPU: an Ollama that holds it, the commands, and a watch over who holds how much."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from demo.scene import free_port
from orchestrator.clients.docker import ContainerFacts, Docker
from orchestrator.clients.gateway import Gateway

ROOT = Path(__file__).resolve().parents[2]
STACK = "vram"
PROJECT = f"migrate-{STACK}"
ORIGINAL = "vram-ollama"
VOLUME = "vram-models"
NETWORK = "vram-original"
OLLAMA, VLLM = "migrate/standin-ollama:dev", "migrate/standin-vllm:dev"
LARGE, SMALL = "llama3.1:8b", "qwen3:0.6b"
ENGINES = {LARGE: "llama3-1-8b", SMALL: "qwen3-0-6b"}
GIB = 2**30
HANG_S = 120.0  # what takes longer hangs; nothing is judged by its time


def docker(*words: str, check: bool = True) -> str:
    """Run the docker command; returns what it says on either stream."""
    done = subprocess.run(["docker", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert not check or done.returncode == 0, f"docker {' '.join(words)}:\n{done.stdout}"
    return done.stdout


def until(what: str, there: Callable[[], bool]) -> None:
    end = time.monotonic() + HANG_S
    while not there():
        assert time.monotonic() < end, f"{what}: still not"
        time.sleep(0.2)


@dataclass
class Watch(threading.Thread):
    """Looks at the ledger all the time: the most that was held, and every holder in the order of appearance."""

    folder: Path
    most: int = 0
    seen: list[str] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        while not self._ended.wait(0.03):
            self.look()

    def look(self) -> None:
        held = holders(self.folder)
        self.most = max(self.most, sum(size for _, _, size in held))
        for owner, label, _ in held:
            name = f"{owner} {label}"
            if name not in self.seen:
                self.seen.append(name)

    def stop(self) -> None:
        self._ended.set()
        self.join()


def holders(folder: Path) -> list[tuple[str, str, int]]:
    """Return owner, label and bytes of everything on the GPU now."""
    with suppress(OSError, ValueError):
        return [(a["owner"], a["label"], a["bytes"]) for a in json.loads((folder / "ledger.json").read_text())["allocations"]]
    return []


class Bench:
    """One virtual GPU of 24 GiB and what stands on it."""

    def __init__(self, folder: Path, nvml: Path) -> None:
        self.folder = folder
        self.ledger = folder / "ledger"
        self.ledger.mkdir()
        self.port, self.control_port = free_port(25600), free_port(25680)
        self.url = f"http://127.0.0.1:{self.port}"
        self.docker = Docker()
        self.env = {
            **os.environ, "MIGRATE_STACKS": str(folder / "stacks"), "MIGRATE_STACK": STACK,
            "MIGRATE_DEFAULTS": str(self._defaults()), "STANDIN_LEDGER": str(self.ledger),
            "LD_LIBRARY_PATH": str(nvml), "COLUMNS": "160",
        }  # fmt: skip

    def _defaults(self) -> Path:
        engine = {
            "gated": False, "volumes": [f"{self.ledger}:/ledger"], "drain": "5s",
            "env": {"STANDIN_LEDGER": "/ledger", "STANDIN_START_S": "2", "STANDIN_TOKEN_MS": "2"},
        }  # fmt: skip
        wanted = {
            "images": {"gateway": "migrate/gateway:dev", "sidecar": "migrate/sidecar:dev", "vllm": VLLM},
            "gateway": {"control_port": self.control_port},
            "engines": dict.fromkeys(ENGINES.values(), engine),
            "takeover": {"drain": "10s"},
            "parity": {"max_tokens": 4},
            "load": {"users": [1], "requests_per_user": 1, "max_tokens": 4, "latency_factor": 1000.0,
                     "throughput_factor": 0.0, "baseline": False, "live_cost": False},
        }  # fmt: skip
        path = self.folder / "defaults.yaml"
        path.write_text(yaml.safe_dump(wanted), encoding="utf-8")
        return path

    # -- acting -------------------------------------------------------------------------------------------

    def set(self) -> None:
        """Start the original Ollama, with the larger model loaded for good."""
        self.clear()
        docker("network", "create", NETWORK)
        docker(
            "run", "--detach", "--pull", "never", "--name", ORIGINAL, "--gpus", "device=0", "--network", NETWORK,
            "--restart", "unless-stopped", "--publish", f"127.0.0.1:{self.port}:11434",
            "--volume", f"{VOLUME}:/root/.ollama", "--volume", f"{self.ledger}:/ledger",
            "--env", "STANDIN_LEDGER=/ledger", "--env", "STANDIN_GPUS=0:24GiB=NVIDIA GeForce RTX 4090",
            "--env", "STANDIN_LOAD_S=1", "--env", "STANDIN_TOKEN_MS=2", "--env", "OLLAMA_CONTEXT_LENGTH=8192", OLLAMA,
        )  # fmt: skip
        until("the original answers", lambda: self.answers("/api/version"))
        self.post("/api/generate", {"model": LARGE, "keep_alive": -1})

    def migrate(self, *words: str, codes: tuple[int, ...] = (0,)) -> str:
        """Run a command of the product to its end, which must be one of `codes`; returns all that it says."""
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator", *words, "--progress", "plain"], cwd=ROOT, env=self.env, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        assert done.returncode in codes, f"migrate {' '.join(words)} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def compose(self, *words: str) -> None:
        """Run plain Compose on the rendered file, as somebody without migrate would."""
        docker("compose", "--file", str(self.stack / "compose.yaml"), *words)

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        path = self.stack / "migrate.yaml"
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        change(data)
        path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")

    @contextmanager
    def watched(self) -> Iterator[Watch]:
        watch = Watch(self.ledger)
        watch.start()
        try:
            yield watch
        finally:
            watch.stop()

    def clear(self) -> None:
        """Remove everything of ours, whatever state it is in."""
        for label in (f"label=org.migrate.stack={STACK}", f"label=com.docker.compose.project={PROJECT}", f"name={ORIGINAL}"):
            for one in docker("ps", "--all", "--quiet", "--filter", label).split():
                docker("rm", "--force", one, check=False)
        for volume in (VOLUME, *docker("volume", "ls", "--quiet", "--filter", f"name={PROJECT}").split()):
            docker("volume", "rm", volume, check=False)
        for network in (f"{PROJECT}_default", NETWORK):
            docker("network", "rm", network, check=False)

    # -- looking ------------------------------------------------------------------------------------------

    @property
    def stack(self) -> Path:
        return self.folder / "stacks" / STACK

    def spec(self) -> dict[str, Any]:
        data: dict[str, Any] = yaml.safe_load((self.stack / "migrate.yaml").read_text(encoding="utf-8"))
        return data

    def promised(self) -> int:
        """Return the bytes of all caches, as rendered for the engines."""
        lines = [self.service(f"vllm-{name}").command for name in ENGINES.values()]
        return sum(int(line[line.index("--kv-cache-memory-bytes") + 1]) for line in lines)

    def answers(self, path: str) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(self.url + path, timeout=5, trust_env=False).status_code == 200
        return False

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        answer = httpx.post(self.url + path, json=body, timeout=60, trust_env=False)
        assert answer.status_code == 200, answer.text
        return answer

    def chat(self, model: str) -> int:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": False,
                "options": {"num_predict": 2}}  # fmt: skip
        with suppress(httpx.HTTPError):
            return httpx.post(f"{self.url}/api/chat", json=body, timeout=60, trust_env=False).status_code
        return 0

    def gateway(self) -> Gateway:
        token = (self.stack / "secrets" / "control.token").read_text(encoding="utf-8").strip()
        return Gateway(f"http://127.0.0.1:{self.control_port}", token)

    def weights(self) -> dict[str, float]:
        with self.gateway() as gateway:
            return {model: weight for model, weight in gateway.status().weights.items() if weight}

    def shift(self, weights: dict[str, float]) -> None:
        with self.gateway() as gateway:
            gateway.set_weights(weights, gateway.status().version, "test")

    def answers_on(self, side: str, model: str) -> bool:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        with self.gateway() as gateway, suppress(httpx.HTTPError):
            url = f"http://127.0.0.1:{self.control_port}/side/{side}/v1/chat/completions"
            answer = httpx.post(url, json=body, headers=gateway.auth_headers, timeout=60, trust_env=False)
            return answer.status_code == 200
        return False

    def serve(self) -> bool:
        """Whether every model is answered on both sides."""
        return all(self.answers_on(side, model) for side in ("vllm", "ollama") for model in ENGINES)

    def loaded(self) -> dict[str, tuple[int, int]]:
        """Return size and size in VRAM of what Ollama has loaded."""
        answer = httpx.get(f"{self.url}/api/ps", timeout=30, trust_env=False).json()
        return {one["name"]: (one["size"], one["size_vram"]) for one in answer["models"]}

    def service(self, name: str) -> ContainerFacts:
        found = self.docker.containers(project=PROJECT, service=name)
        assert len(found) == 1, f"{name}: {found}"
        return found[0]

    def log(self, service: str) -> list[tuple[str, str]]:
        """Return time stamps, comparable as texts, and lines of a service since its container last started."""
        one = self.service(service)
        lines = docker("logs", "--timestamps", "--since", one.started_at, one.id).splitlines()
        return [(at, text) for at, _, text in (line.partition(" ") for line in lines)]
