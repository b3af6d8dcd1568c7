"""`migrate scan` over a generated tree: seconds, and the ratio against a bare walk that reads every file.

Run .venv/bin/python bench/scan.py [FILES]: 100,000 unless said; a third of a percent of them talk to Ollama.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from pathlib import Path

from orchestrator.decide.callers import find
from orchestrator.observe.scan import Tally, walk

SOURCE = "def handler(request):\n    value = compute(request.args['id'])\n    return {'value': value, 'port': 8080}\n"
CALLER = 'client = OpenAI(base_url="http://localhost:11434/v1", api_key="ollama")\n'


def lay(root: Path, files: int) -> int:
    """Write the tree; returns how many files have a caller."""
    draw = random.Random(1)
    callers = 0
    for number in range(files):
        folder = root / f"p{number // 1000}" / f"m{number // 50 % 20}"
        if number % 50 == 0:
            folder.mkdir(parents=True, exist_ok=True)
        text = SOURCE * draw.randint(1, 80)
        if number % 300 == 0:
            text += CALLER
            callers += 1
        (folder / f"f{number}.py").write_text(text, encoding="utf-8")
    return callers


def bare(root: Path) -> int:
    """Return the bytes of the tree, walked and read by nothing but the standard library."""
    total = 0
    for folder, _, names in os.walk(root):
        for name in names:
            total += len(Path(folder, name).read_bytes())
    return total


def main() -> None:
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory(prefix="scan-bench-") as scratch:
        root = Path(scratch)
        callers = lay(root, files)
        size = bare(root)       # warms the page cache for both
        rows = []
        for _ in range(3):
            begin = time.perf_counter()
            bare(root)
            middle = time.perf_counter()
            tally = Tally()
            found = sum(len(find(path, text)) for path, text in walk(root, tally))
            rows.append((middle - begin, time.perf_counter() - middle))
            if found != callers or tally.files != files:
                sys.exit(f"found {found} of {callers} callers in {tally.files} of {files} files")
        reading, scanning = (min(column) for column in zip(*rows, strict=True))
    print(f"{files:,} files, {size / 2**20:.0f} MiB, page cache warm, best of 3 (interleaved)")
    print(f"bare walk and read {reading:.1f} s, scan {scanning:.1f} s, ratio {scanning / reading:.2f}")


if __name__ == "__main__":
    main()
