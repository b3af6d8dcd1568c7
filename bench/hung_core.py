"""How long after vLLM's core hangs, behind a server that lives, do new requests go to Ollama? And does work ever alarm?

    tools/engine run .venv/bin/python bench/hung_core.py [--runs 4] [--work 40]

A stack as it is rendered, with the real vLLM (its CPU build) and a tiny model, at weight 100; no command of `migrate`
runs. Its EngineCore process alone gets a SIGSTOP: `/health` is still answered. `busy`: a new request starts every 50 ms
all along; `idle`: the first one starts right after the freeze. Counted is until the first new request after which all
are answered, and by Ollama. Then, for --work seconds: prompts that fill the context, more of them than fit; alarms of
the guard are counted, and there should be none.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from statistics import median
from typing import Any

import yaml

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "integration"), str(Path(__file__).parents[1])]
from frozen import EVERY_S, Asker  # noqa: E402
from plain_stack import ENGINE, MODEL, PlainStack  # noqa: E402

from demo.scene import SHARED_CPU, TINY, models_folder  # noqa: E402
from orchestrator.render import render, write  # noqa: E402
from orchestrator.spec import load_spec  # noqa: E402

CONTEXT = 2048


def real(folder: Path) -> PlainStack:
    """The stack with the real vLLM in place of the stand-in."""
    stack = PlainStack(folder, "hung", vllm="migrate/vllm-cpu:dev")
    path = folder / "migrate.yaml"
    spec = yaml.safe_load(path.read_text(encoding="utf-8"))
    spec["engines"][ENGINE] |= {
        "repo": TINY, "max_model_len": CONTEXT, "max_num_seqs": 16, "enforce_eager": True,
        "volumes": [f"{models_folder()}:/models:ro"], "env": {"HF_HUB_OFFLINE": "1", **SHARED_CPU},
    }
    path.write_text(yaml.safe_dump(spec), encoding="utf-8")
    write(folder, render(load_spec(path)))
    return stack


def core(stack: PlainStack) -> list[int]:
    """Return the processes of the engine's core."""
    lines = stack.docker("top", stack.container(stack.vllm), "-eo", "pid,args").splitlines()[1:]
    return [int(line.split()[0]) for line in lines if "VLLM::" in line]


def send(stack: PlainStack, number: int) -> None:
    for pid in core(stack):
        os.kill(pid, number)


def hang(stack: PlainStack, *, busy: bool) -> float:
    """Freeze, wait until requests are answered again, thaw; return the seconds in which new ones were not."""
    asker = Asker(f"{stack.url}/v1/chat/completions")
    if busy:
        asker.start()
    time.sleep(2 + random.random() * 3)
    send(stack, signal.SIGSTOP)
    at = time.monotonic()
    if not busy:
        asker.start()
    stack.until("the circuit is open", stack.circuits)
    time.sleep(1.5)
    asker.done.set()
    end = time.monotonic()
    stuck = [began for began, took in asker.seen if took is None and at <= began < end - 1.0]
    send(stack, signal.SIGCONT)
    stack.until("the circuit is closed", lambda: not stack.circuits())
    time.sleep(1)
    return max(stuck, default=at) + EVERY_S - at


def noted(stack: PlainStack) -> list[dict[str, Any]]:
    path = stack.folder / ".state" / "guard" / "events.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def alarms(stack: PlainStack) -> int:
    return sum(one["event"] in ("replica", "lowered") for one in noted(stack))


def work(stack: PlainStack, seconds: float) -> int:
    """Ask for what takes longest: whole contexts to read, 48 at once where 16 fit; return how many were answered."""
    until, done = time.monotonic() + seconds, []

    def one() -> None:
        while time.monotonic() < until:
            prompt = "".join(random.choices("abcdefghijklmnop ", k=CONTEXT - 200))
            body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": prompt}], "max_tokens": 2})
            request = urllib.request.Request(
                f"{stack.url}/v1/chat/completions", body.encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=300) as answer:
                answer.read()
            done.append(1)

    threads = [threading.Thread(target=one, daemon=True) for _ in range(48)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--work", type=float, default=40)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stack = real(Path(folder))
        try:
            stack.up("ollama", "gateway", "adapter", f"vllm-{ENGINE}", "guard")
            stack.weight(100)
            served = work(stack, options.work)
            print(f"{served} prompts of a whole context, 48 at once: {alarms(stack)} alarms; should be 0")
            for name, busy in (("busy", True), ("idle", False)):
                taken = [hang(stack, busy=busy) for _ in range(options.runs)]
                shown = ", ".join(f"{one:.2f}" for one in taken)
                print(f"{name}: median {median(taken):.2f} s, most {max(taken):.2f} s ({shown}); the bar is 5 s")
            print("noted:", *(one.get("cause", one["event"]) for one in noted(stack)), sep="\n  ")
        except AssertionError:
            for service in (stack.vllm, "guard"):
                subprocess.run(["docker", "logs", "--tail", "30", stack.container(service)], check=False)
            raise
        finally:
            stack.down()


if __name__ == "__main__":
    main()
