"""Ollama's log of a million lines: seconds, peak memory, and the ratio against a bare pass over the lines.

Run .venv/bin/python bench/access_log.py [LINES]: 1,000,000 unless said, as `docker logs --timestamps` writes them; once
requests alone, which is the most work, and once with what llama-server says of each request.
"""

from __future__ import annotations

import datetime as dt
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from orchestrator.observe.accesslog import look

ENGINE = """slot launch_slot_: id 0 | task 70 | new prompt, n_ctx_slot = 16384, n_keep = 4, task.n_tokens = 14892
\trepeat_last_n = 64, repeat_penalty = 1.100, frequency_penalty = 0.000, presence_penalty = 0.000
\ttop_k = 64, top_p = 0.950, min_p = 0.000, xtc_probability = 0.000, xtc_threshold = 0.100, temp = 1.000
slot update_slots: id 0 | task 70 | prompt processing progress, n_tokens = 2048, batch.n_tokens = 2048
slot print_timing: id 0 | task 70 | prompt eval time = 847.20 ms / 421 tokens ( 2.01 ms per token)
       eval time = 1587.12 ms / 85 tokens ( 18.67 ms per token)
slot release: id 0 | task 70 | stop processing: n_tokens = 14977, truncated = 0
""".splitlines()


def lay(file: Path, lines: int, *, engine: bool = False) -> None:
    draw = random.Random(3)
    now = dt.datetime(2026, 5, 4, tzinfo=dt.UTC)
    with file.open("w", encoding="utf-8") as out:
        for number in range(lines):
            now += dt.timedelta(seconds=draw.expovariate(1.5))
            stamp = f"{now:%Y-%m-%dT%H:%M:%S.%f}000Z"
            if engine and number % (len(ENGINE) + 1):
                out.write(f"{stamp} {ENGINE[number % (len(ENGINE) + 1) - 1]}\n")
                continue
            latency = draw.expovariate(1 / 3)
            shown = f"{latency:.9f}s" if latency >= 1 else f"{latency * 1000:.4f}ms"
            out.write(
                f"{stamp} [GIN] {now:%Y/%m/%d - %H:%M:%S} | 200 | {shown:>13} | "
                f"{'10.0.0.' + str(draw.randrange(40)):>15} | POST     \"/api/chat\"\n"
            )


def measure(lines: int, what: str, *, engine: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="log-bench-") as scratch:
        file = Path(scratch, "ollama.log")
        lay(file, lines, engine=engine)
        begin = time.process_time()
        with file.open(encoding="utf-8") as text:
            bare = sum("[GIN]" in line for line in text)
        middle, wall = time.process_time(), time.perf_counter()
        found = look((str(file),))
        took, passed, wall = time.process_time() - middle, middle - begin, time.perf_counter() - wall
    if found.requests != bare:
        sys.exit(f"{found.requests} of {bare} requests were read")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024      # Linux counts KiB
    print(f"{lines:,} lines, {what}: {took:.1f} s of CPU, {wall:.1f} s, peak memory of the process {memory:.0f} MiB; "
          f"bare pass over the lines {passed:.2f} s, ratio {took / passed:.0f}")  # fmt: skip


def main() -> None:
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    measure(lines, "one in eight a request", engine=True)
    measure(lines, "requests alone", engine=False)


if __name__ == "__main__":
    main()
