"""Comparisons on disk: the newest of each route, in files that only their owner can read."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.errors import UsageError

BYTES_MOST = 64 * 2**20     # of a route, whatever the number
COMPARED_MOST = 1500        # characters of an answer whose likeness is worked out


class Ring:
    """The files below `folder`; `keep` is the number of comparisons per route."""

    def __init__(self, folder: Path, keep: dict[str, int]) -> None:
        self._folder = folder
        self.keep = keep
        self._last = 0

    def put(self, route: str, record: dict[str, Any]) -> Path:
        """Keep a comparison, and remove the oldest beyond what is kept; raises OSError when the disk says no."""
        place = self._folder / _slug(route)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._last = max(self._last + 1, time.time_ns())
        path = place / f"{self._last:020d}.json"
        text = json.dumps(record, ensure_ascii=False).encode(errors="replace")
        self._trim(place, self.keep.get(route, 1) - 1, BYTES_MOST - len(text))
        new = path.with_suffix(".new")
        try:
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(text)
            new.replace(path)
        except OSError:
            new.unlink(missing_ok=True)
            raise
        return path

    def lines(self) -> Iterator[str]:
        """One line per comparison, oldest first: numbers alone, no text of anybody."""
        for path in self._files():
            record = _read(path)
            if record is None:
                continue
            sides = ", ".join(_numbers(side, record.get(side) or {}) for side in ("ollama", "vllm"))
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(float(record.get("at") or 0)))
            yield f"{path.stem} {when} {record.get('route')} {record.get('uri')}: {sides}; {_likeness(record)}"

    def records(self, newest: int = 0, route: str = "") -> Iterator[dict[str, Any]]:
        """Each comparison without any text, oldest first; with text, but without raw bodies, the `newest` ones alone.

        `route`: of this route alone.
        """
        kept = ("at", "route", "uri", "likeness") + ("request",) * (newest > 0)
        for path in self._files(_slug(route) if route else "*")[-newest:]:
            if record := _read(path):
                sides = {side: _side(record.get(side), texts=newest > 0) for side in ("ollama", "vllm")}
                yield {"id": path.stem} | {key: record.get(key) for key in kept} | sides

    def show(self, name: str) -> str:
        """Return one comparison with all its text; raises UsageError when there is none of that name."""
        found = next((path for path in self._files() if path.stem == name), None)
        record = _read(found) if found else None
        if record is None:
            raise UsageError(f"there is no comparison {name}: --list shows which there are")
        return json.dumps(record, indent=2, ensure_ascii=False)

    def clear(self) -> int:
        """Remove everything; return how many there were."""
        files = self._files()
        for path in files:
            path.unlink(missing_ok=True)
        return len(files)

    def _files(self, place: str = "*") -> list[Path]:
        return sorted(self._folder.glob(f"{place}/*.json"), key=lambda path: path.name)

    def _trim(self, place: Path, count: int, size: int) -> None:
        for left_over in place.glob("*.new"):
            left_over.unlink(missing_ok=True)
        for at, path in enumerate(sorted(place.glob("*.json"), reverse=True)):
            size -= path.stat().st_size
            if at >= count or size < 0:
                path.unlink(missing_ok=True)


def compared(meta: dict[str, Any], request: bytes, ollama: bytes, vllm: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of a sample; `likeness` (0..1) is of the two texts' beginnings, None without both."""
    ours, theirs = words(ollama), words(vllm["body"])
    likeness = None
    if vllm["status"] == 200 and ours is not None and theirs is not None:
        likeness = 1.0 if ours == theirs else round(
            difflib.SequenceMatcher(None, ours[:COMPARED_MOST], theirs[:COMPARED_MOST], autojunk=False).ratio(), 3
        )  # fmt: skip
    return {
        "at": time.time(), "route": meta.get("route"), "uri": meta.get("uri"), "id": meta.get("id"),
        "request": request.decode(errors="replace"), "likeness": likeness,
        "ollama": {"status": 200, "ttft_ms": meta.get("ttft_ms"), "total_ms": meta.get("total_ms"),
                   "text": ours, "body": ollama.decode(errors="replace")},
        "vllm": vllm | {"text": theirs, "body": vllm["body"].decode(errors="replace")},
    }  # fmt: skip


def words(body: bytes) -> str | None:
    """Return the text that an answer says, whatever its API, streamed or not; None when none is found."""
    found: list[str] = []
    text = body.decode(errors="replace")
    try:
        found += _said(json.loads(text))
    except ValueError:
        for line in text.splitlines():
            try:
                found += _said(json.loads(line.removeprefix("data:")))
            except ValueError:
                continue
    return "".join(found) if found else None


def _said(value: Any) -> Iterator[str]:
    if not isinstance(value, dict):
        return
    for key in ("message", "delta"):
        part = value.get(key)
        if isinstance(part, dict):
            yield from (part[name] for name in ("content", "text") if isinstance(part.get(name), str))
    deltas = value.get("type") == "response.output_text.delta"
    names = ["response"] + ["text"] * ("type" not in value) + ["delta"] * deltas
    yield from (value[name] for name in names if isinstance(value.get(name), str))
    for part in _list(value, "choices") + _list(value, "output"):
        yield from _said(part)
    yield from (part["text"] for part in _list(value, "content") if isinstance(part, dict)
                and isinstance(part.get("text"), str))  # fmt: skip


def _list(value: dict[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    return found if isinstance(found, list) else []


def _side(answer: Any, *, texts: bool) -> dict[str, Any]:
    kept = ("status", "ttft_ms", "total_ms", "error") + ("text",) * texts
    return {key: answer.get(key) for key in kept} if isinstance(answer, dict) else {}


def _numbers(side: str, answer: dict[str, Any]) -> str:
    ttft = answer.get("ttft_ms")
    first = f", first byte {ttft:.0f} ms" if isinstance(ttft, int | float) else ""
    total = answer.get("total_ms")
    spent = f" in {total:.0f} ms" if isinstance(total, int | float) else ""
    return f"{side} {answer.get('status')}{spent}{first}"


def _likeness(record: dict[str, Any]) -> str:
    likeness = record.get("likeness")
    return "the same text" if likeness == 1 else "no text to compare" if likeness is None else f"{likeness:.0%} alike"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _slug(route: str) -> str:
    return f"{re.sub(r'[^a-z0-9]+', '-', route.lower())[:60]}-{hashlib.sha256(route.encode()).hexdigest()[:8]}"
