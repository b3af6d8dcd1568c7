"""How long after vLLM freezes do new requests go to Ollama? At weight 100, and no command of `migrate` is running.

    tools/engine run .venv/bin/python bench/frozen.py [--runs 6]

A stack with stand-in engines, as it is rendered; its vLLM is frozen at a random moment, as a whole (`docker pause`)
or its server alone (SIGSTOP). A new request starts every 50 ms. Counted is until the first one starts after which
all are answered, and by Ollama. Beside it: the CPU time that the guard takes meanwhile.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from statistics import median

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "integration"), str(Path(__file__).parents[1])]
from plain_stack import MODEL, PlainStack  # noqa: E402

EVERY_S = 0.05
BODY = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}).encode()


class Asker(threading.Thread):
    """One new request each EVERY_S, each in a thread of its own; `seen`: when it began, and how long it took."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url, self.seen, self.done = url, [], threading.Event()

    def run(self) -> None:
        while not self.done.wait(EVERY_S):
            threading.Thread(target=self.one, daemon=True).start()

    def one(self) -> None:
        began = time.monotonic()
        record = [began, None]
        self.seen.append(record)
        request = urllib.request.Request(self.url, BODY, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            answer.read()
        record[1] = time.monotonic() - began


def freeze(stack: PlainStack, how: str) -> float:
    """Freeze, wait until requests are answered again, thaw; return the seconds in which new ones were not."""
    asker = Asker(f"{stack.url}/v1/chat/completions")
    asker.start()
    time.sleep(2 + random.random() * 2)
    before = stack.failovers()
    stack.freeze(stack.vllm, how)
    at = time.monotonic()
    stack.until("answers of Ollama", lambda: stack.failovers() > before)
    time.sleep(1)
    asker.done.set()
    end = time.monotonic()
    stuck = [began for began, took in asker.seen if took is None and began < end - 0.5]
    stack.thaw(stack.vllm, how)
    stack.until("the circuit is closed", lambda: not stack.circuits())
    return max(stuck, default=at) + EVERY_S - at


def cpu_s(stack: PlainStack) -> float:
    fields = Path(f"/proc/{stack.pid('guard')}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=6)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        stack = PlainStack(Path(folder), "frozen")
        try:
            stack.up()
            stack.weight(100)
            used, began = cpu_s(stack), time.monotonic()
            for how in ("pause", "SIGSTOP"):
                taken = [freeze(stack, how) for _ in range(runs)]
                shown = ", ".join(f"{one:.2f}" for one in taken)
                print(f"{how}: median {median(taken):.2f} s, most {max(taken):.2f} s ({shown}); the bar is 5 s")
            share = (cpu_s(stack) - used) / (time.monotonic() - began)
            print(f"guard: {share:.2%} of a core; the bar is 1 %")
        finally:
            stack.down()


if __name__ == "__main__":
    main()
