"""Ollama's access log of a million lines: seconds, peak memory, and the ratio against a bare pass over the lines.

Run .venv/bin/python bench/access_log.py [LINES]: 1,000,000 unless said, as `docker logs --timestamps` writes them.
"""

from __future__ import annotations

import datetime as dt
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from orchestrator.decide.evidence import reconstruct


def lay(file: Path, lines: int) -> None:
    draw = random.Random(3)
    now = dt.datetime(2026, 5, 4, tzinfo=dt.UTC)
    with file.open("w", encoding="utf-8") as out:
        for _ in range(lines):
            now += dt.timedelta(seconds=draw.expovariate(1.5))
            latency = draw.expovariate(1 / 3)
            shown = f"{latency:.9f}s" if latency >= 1 else f"{latency * 1000:.4f}ms"
            out.write(
                f"{now:%Y-%m-%dT%H:%M:%S.%f}000Z [GIN] {now:%Y/%m/%d - %H:%M:%S} | 200 | {shown:>13} | "
                f"{'10.0.0.' + str(draw.randrange(40)):>15} | POST     \"/api/chat\"\n"
            )


def main() -> None:
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory(prefix="log-bench-") as scratch:
        file = Path(scratch, "ollama.log")
        lay(file, lines)
        begin = time.process_time()
        with file.open(encoding="utf-8") as text:
            bare = sum("[GIN]" in line for line in text)
        middle = time.process_time()
        with file.open(encoding="utf-8") as text:
            found = reconstruct(text, file.name)
        took, passed = time.process_time() - middle, middle - begin
    if found.requests != bare:
        sys.exit(f"{found.requests} of {bare} requests were read")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024      # Linux counts KiB
    print(f"{lines:,} lines: {took:.1f} s of CPU, peak memory of the process {memory:.0f} MiB")
    print(f"bare pass over the lines {passed:.2f} s, ratio {took / passed:.0f}")


if __name__ == "__main__":
    main()
