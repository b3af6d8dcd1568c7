"""Records the demonstration in a terminal and writes it as a picture: docs/demo.svg.

usage: tools/picture.py [COMMAND...]   (default: make demo)
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 120
ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "demo.svg"
# A moving line shows its last state only; waits and steps that had nothing to do are left out.
LEFT_OUT = re.compile(r"^(… |· |= |engine: |images: |setup: |make|[\u2800-\u28ff])")


def record(command: list[str]) -> str:
    """Run `command` on a terminal of its own and return what it wrote; a failure ends this program."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(WIDTH), "LINES": "50", "TERM": "xterm-256color"}
    process = subprocess.Popen(command, stdout=follower, stderr=follower, stdin=follower, cwd=ROOT, env=environment)
    os.close(follower)
    parts = []
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    if process.wait() != 0:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return b"".join(parts).decode(errors="replace")


def settle(text: str) -> list[str]:
    """Return the lines as they stand at the end: of a line that was written over, the last state."""
    lines = []
    for raw in text.replace("\r\n", "\n").split("\n"):
        last = raw.split("\r")[-1]
        plain = Text.from_ansi(last).plain
        if not LEFT_OUT.match(plain):
            lines.append(last)
    return lines


def draw(lines: list[str]) -> str:
    """Return the lines as one SVG."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    for line in lines:
        console.print(Text.from_ansi(line), soft_wrap=False)
    return console.export_svg(title="make demo", code_format=_FORMAT)


# rich's own picture asks a server for its fonts; this one is drawn with what the reader has.
_FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" xml:space="preserve">
<style>
.{unique_id}-matrix {{ font-family: Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: {char_height}px;
line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-family: sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


def main() -> None:
    lines = settle(record(sys.argv[1:] or ["make", "demo"]))
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(draw(lines), encoding="utf-8")
    print(f"{TARGET.relative_to(ROOT)}: {len(lines)} lines")


if __name__ == "__main__":
    main()
