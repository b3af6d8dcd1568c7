"""Where Ollama's log comes from: files, rotated and gzipped ones, a folder, standard input. Changes nothing."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from orchestrator.clients.docker import Docker
from orchestrator.decide.evidence import reconstruct
from orchestrator.errors import UsageError
from orchestrator.facts import Traffic

_MOST = 5_000_000           # lines of a container's log that are read, the newest
_LONGEST = 64 * 1024        # characters of one line that are kept: a binary file is one endless line


def look(paths: tuple[str, ...]) -> Traffic:
    """Return the evidence in these files and folders; `-` is standard input. Raises UsageError with every bad path."""
    files: list[Path | None] = []
    problems: list[str] = []
    for path in paths:
        found, problem = _expand(path)
        files += found
        problems += [problem] if problem else []
    if problems:
        raise UsageError("cannot read the log", evidence="\n".join(problems),
                         hint="name a file, a folder of rotated files, or - for standard input: docker logs "
                              "--timestamps ollama 2>&1 | migrate plan --log -")  # fmt: skip
    try:
        return reconstruct(_lines(files), ", ".join(paths))
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"cannot read the log: {error}", hint="is the file whole, and readable?") from None


def container(docker: Docker, name: str) -> Traffic:
    """Return the evidence in a container's log, both streams, with Docker's own times. Raises MigrateError."""
    return reconstruct(docker.log_lines(name, tail=_MOST), f"docker logs {name}")


def _expand(path: str) -> tuple[list[Path | None], str]:
    if path == "-":
        return [None], ""
    where = Path(path)
    if where.is_dir():
        files = sorted((one for one in where.iterdir() if one.is_file()), key=lambda one: one.stat().st_mtime)
        return list(files), "" if files else f"{path}: there is no file in it"
    if where.exists():
        return [where], ""
    return [], f"{path}: there is no such file"


def _lines(files: list[Path | None]) -> Iterator[str]:
    for file in files:
        if file is None:
            yield from sys.stdin
            continue
        # Opened once: what a shell's <(command) names can be read only once.
        with file.open("rb") as raw:
            packed = raw.peek(2)[:2] == b"\x1f\x8b"
            plain = gzip.GzipFile(fileobj=raw) if packed else raw
            with io.TextIOWrapper(plain, encoding="utf-8", errors="replace") as text:
                while line := text.readline(_LONGEST):
                    yield line
