"""What the guard wrote down in the stack's folder, read for the journal. Its file is material, never trusted."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILES = ("events.jsonl.1", "events.jsonl")      # the older one first
_MOST = 4 * 1024 * 1024     # bytes read of each; the guard keeps half a MiB
_LONGEST = 400              # characters of a text that is shown
_LARGEST = 16 * 1024    # bytes of a line
_FIELDS = ("event", "engine", "replica", "owner", "cause", "reason", "version", "out_s", "ok")


@dataclass(frozen=True, slots=True)
class GuardEvent:
    """One event: `at` in epoch seconds; `grave` where traffic was taken from an engine."""

    id: str
    at: float
    subject: str
    text: str
    grave: bool
    data: dict[str, Any]


def look(folder: Path, now: float | None = None) -> list[GuardEvent]:
    """Return the guard's events in the order in which they were written; what is no event is passed over.

    A file that is not there, or cannot be read, has none: the guard's word is no condition of any command.
    """
    limit = (time.time() if now is None else now) + 86400
    return [found for name in FILES for line in _lines(folder / name) if (found := _event(line, limit))]


def _lines(path: Path) -> Iterator[bytes]:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    with os.fdopen(handle, "rb") as file:
        try:
            lines = file.read(_MOST).split(b"\n")
        except OSError:
            return
    # What stands behind the last line break is being written, or was cut off.
    yield from lines[:-1]


def _event(line: bytes, latest: float) -> GuardEvent | None:
    if len(line) > _LARGEST:
        return None
    try:
        said = json.loads(line)
        name, at = str(said["id"]), float(said["at"])
        kind = str(said["event"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not name or len(name) > 64 or not math.isfinite(at) or not 0 < at < latest:
        return None
    try:
        subject, text, grave = _said(kind, said)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        subject, text, grave = "guard", kind, False
    data = {key: said[key] for key in _FIELDS if isinstance(said.get(key), str | int | float | bool)}
    data |= {"id": name, "grave": grave} | ({"weights": _moves(said)} if kind == "lowered" and grave else {})
    return GuardEvent(name, at, _plain(subject), _plain(text), grave, data)


def _said(kind: str, said: dict[str, Any]) -> tuple[str, str, bool]:
    """Return what an event is about, its words, and whether it took traffic away."""
    cause = str(said.get("cause") or said.get("reason") or "")
    if kind == "lowered":
        moves = _moves(said)
        shown = ", ".join(f"{route} {old:g} % -> {new:g} %" for route, (old, new) in moves.items())
        return ", ".join(moves), f"{shown}: {cause}", True
    if kind == "replica":
        name = str(said["replica"])
        if float(said["out_s"]) > 0:
            return name, f"engine {name} gets no requests: {cause}", True
        return name, f"engine {name} gets requests again: {cause}", False
    if kind == "lease":
        return "lease", f"the lease of {said['owner']} has expired and is released", False
    if kind == "gateway":
        return "gateway", "the gateway answers again" if said["ok"] else f"the gateway does not answer: {cause}", False
    if kind == "start":
        return "guard", f"the guard has started; it watches {', '.join(map(str, said['engines']))}", False
    return "guard", f"{kind}: {cause}" if cause else kind, False


def _moves(said: dict[str, Any]) -> dict[str, list[float]]:
    """Return the weights (percent) before and after, of each route."""
    return {str(route): [float(old), float(new)] for route, (old, new) in said["weights"].items()}


def _plain(text: str) -> str:
    """Return the text as one line that no terminal obeys."""
    shown = "".join(one if one.isprintable() else " " for one in text)
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"
