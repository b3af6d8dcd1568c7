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

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "integration"), str(Path(__file__).parents[1])]
from frozen import EVERY_S, Asker  # noqa: E402
from plain_stack import ENGINE, MODEL, PlainStack  # noqa: E402

CONTEXT = 2048


def hang(stack: PlainStack, *, busy: bool) -> float:
    """Freeze, wait until requests are answered again, thaw; return the seconds in which new ones were not."""
    asker = Asker(f"{stack.url}/v1/chat/completions")
    if busy:
        asker.start()
    time.sleep(2 + random.random() * 3)
    stack.core(signal.SIGSTOP)
    at = time.monotonic()
    if not busy:
        asker.start()
    stack.until("the circuit is open", stack.circuits)
    time.sleep(1.5)
    asker.done.set()
    end = time.monotonic()
    stuck = [began for began, took in asker.seen if took is None and at <= began < end - 1.0]
    stack.core(signal.SIGCONT)
    stack.until("the circuit is closed", lambda: not stack.circuits())
    time.sleep(1)
    return max(stuck, default=at) + EVERY_S - at


def alarms(stack: PlainStack) -> int:
    return sum(one["event"] in ("replica", "lowered") for one in stack.noted())


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
        stack = PlainStack.real(Path(folder), "hung")
        try:
            stack.up("ollama", "gateway", "adapter", f"vllm-{ENGINE}", "guard")
            stack.weight(100)
            served = work(stack, options.work)
            print(f"{served} prompts of a whole context, 48 at once: {alarms(stack)} alarms; should be 0")
            for name, busy in (("busy", True), ("idle", False)):
                taken = [hang(stack, busy=busy) for _ in range(options.runs)]
                shown = ", ".join(f"{one:.2f}" for one in taken)
                print(f"{name}: median {median(taken):.2f} s, most {max(taken):.2f} s ({shown}); the bar is 5 s")
            print("noted:", *(one.get("cause", one["event"]) for one in stack.noted()), sep="\n  ")
        except AssertionError:
            for service in (stack.vllm, "guard"):
                subprocess.run(["docker", "logs", "--tail", "200", stack.container(service)], check=False)
            raise
        finally:
            stack.down()


if __name__ == "__main__":
    main()
