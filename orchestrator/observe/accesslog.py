"""Where Ollama's log comes from: files, rotated and packed ones, a folder, standard input. Changes nothing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from orchestrator.clients.docker import Docker
from orchestrator.decide.evidence import reconstruct, summed
from orchestrator.decide.gathered import Gathered
from orchestrator.errors import UsageError
from orchestrator.facts import Traffic
from orchestrator.observe import logfile

_MOST = 5_000_000           # lines of a container's log that are read, the newest


def look(paths: tuple[str, ...]) -> Traffic:
    """Return the evidence in these files and folders; `-` is standard input. Raises UsageError with every bad path.

    A file that is damaged counts as far as it can be read, with a note; only when no line can be read is it an error.
    """
    files: list[Path | None] = []
    problems: list[str] = []
    for path in paths:
        found, problem = _expand(path)
        files += [one for one in found if one not in files]
        problems += [problem] if problem else []
    log, notes = Gathered(), []
    for file in () if problems else files:
        before, told = log.lines, list[str]()
        try:
            with _open(file) as raw:
                log.read(logfile.lines(raw, told.append))
        except OSError as error:
            problems.append(f"{file or 'standard input'}: {error.strerror or error}")
        except logfile.Unreadable as error:
            problems.append(f"{file or 'standard input'}: {error}")
        notes += [f"{file or 'standard input'}: {one}; {log.lines - before} lines before that count" for one in told]
    if problems or (notes and not log.lines):
        raise UsageError("cannot read the log", evidence="\n".join(problems or notes),
                         hint="name a file, a folder of rotated files, or - for standard input: docker logs "
                              "--timestamps ollama 2>&1 | migrate plan --log -")  # fmt: skip
    return summed(log, ", ".join(paths), tuple(notes))


def container(docker: Docker, name: str) -> Traffic:
    """Return the evidence in a container's log, both streams, with Docker's own times. Raises MigrateError."""
    return reconstruct(docker.log_lines(name, tail=_MOST), f"docker logs {name}")


def _expand(path: str) -> tuple[list[Path | None], str]:
    if path == "-":
        return [None], ""
    where = Path(path)
    try:
        if where.is_dir():
            # The oldest first, so that hardly anything has to be sorted.
            files = sorted((one for one in where.iterdir() if one.is_file()), key=lambda one: one.stat().st_mtime)
            return list(files), "" if files else f"{path}: there is no file in it"
        if where.exists():
            return [where], ""
    except (OSError, ValueError) as error:
        return [], f"{path}: {getattr(error, 'strerror', None) or error}"
    return [], f"{path}: there is no such file"


@contextlib.contextmanager
def _open(file: Path | None) -> Iterator[BinaryIO]:
    if file is None:
        yield cast("BinaryIO", sys.stdin.buffer)
        return
    # Opened once: what a shell's <(command) names can be read only once.
    with file.open("rb") as raw:
        yield raw
