"""What the guard did, written down for the stack's journal: a line of JSON each, in a folder of the stack.

`migrate` takes the lines over when it runs next. They hold names, weights and reasons, and no token.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from orchestrator.adapter.respond import log

FILE = "events.jsonl"
MOST = 512 * 1024       # bytes of the file, and of the older one beside it


class Notes:
    """Appends to `folder`/events.jsonl. Where that cannot be written, this is said once and nothing else suffers."""

    def __init__(self, folder: Path | None, now: Callable[[], float] = time.time, most: int = MOST) -> None:
        self._path = folder / FILE if folder else None
        self._now = now
        self._most = most
        self._lost = ""

    def write(self, event: str, **fields: object) -> None:
        """Write one event; its `id` is its own alone, so that it can be taken over twice without harm."""
        if self._path is None:
            return
        line = {"id": uuid.uuid4().hex, "at": round(self._now(), 3), "event": event, **fields}
        try:
            self._append(self._path, json.dumps(line, default=str).encode() + b"\n")
        except OSError as error:
            reason = f"{type(error).__name__}: {error.strerror}"
            if reason != self._lost:
                log(event="notes", ok=False, reason=reason)
            self._lost = reason
        else:
            self._lost = ""

    def _append(self, path: Path, line: bytes) -> None:
        if path.exists() and path.stat().st_size + len(line) > self._most:
            path.replace(path.with_suffix(".jsonl.1"))
        # Whoever runs migrate is another user than root in here.
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            size = os.fstat(handle).st_size
            # A line that a crash cut off must not swallow this one.
            cut = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            os.write(handle, b"\n" * cut + line)
            os.fdatasync(handle)
        finally:
            os.close(handle)
