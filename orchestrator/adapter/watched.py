"""A configuration file that is read again when it has changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from orchestrator.adapter.respond import log
from orchestrator.errors import UsageError

T = TypeVar("T")


class Watched(Generic[T]):
    """The configuration in force; a file that cannot be read leaves the old one in force."""

    def __init__(self, path: Path, load: Callable[[Path], T]) -> None:
        self._path = path
        self._load = load
        self._seen = self._stamp()
        self.current = load(path)

    def get(self) -> T:
        return self.current

    def reload(self) -> None:
        """Read the file again."""
        self._seen = self._stamp()
        try:
            self.current = self._load(self._path)
        except UsageError as error:
            log(event="reload", ok=False, error=error.message)
        else:
            log(event="reload", ok=True)

    def check(self) -> T:
        """Read the file again when it has changed; return what is in force."""
        if self._stamp() != self._seen:
            self.reload()
        return self.current

    def _stamp(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (found.st_mtime_ns, found.st_ino, found.st_size)
