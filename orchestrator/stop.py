"""Being asked to stop, and waiting so that one notices."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from orchestrator.errors import ExitCode, MigrateError
from orchestrator.events import Emit, Happening, Kind

T = TypeVar("T")


class Interrupted(MigrateError):
    exit_code = ExitCode.INTERRUPTED


class Stop:
    """Ctrl-C and SIGTERM: the first asks to stop at the next safe point, the second leaves at once."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._asked = threading.Event()
        self.code = ExitCode.INTERRUPTED

    def check(self) -> None:
        """Raise Interrupted if a stop was asked for; called where leaving is safe."""
        if self._asked.is_set():
            word = "interrupted" if self.code is ExitCode.INTERRUPTED else "terminated"
            hint = "run the same command again to go on"
            raise Interrupted(f"{word}; nothing is lost", hint=hint, code=self.code)

    def wait(self, seconds: float) -> None:
        """Sleep, but wake up at once for a stop."""
        self._asked.wait(seconds)
        self.check()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle SIGINT and SIGTERM until left."""
        before = {number: signal.signal(number, self._on) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on(self, number: int, _frame: FrameType | None) -> None:
        if self._asked.is_set():
            raise KeyboardInterrupt
        if number == signal.SIGTERM:
            self.code = ExitCode.TERMINATED
        self._asked.set()
        self._emit(Happening(Kind.WARN, "stop", "stopping at the next safe point (Ctrl-C again to leave now)"))


def poll(look: Callable[[], T | None], timeout_s: float, stop: Stop, every_s: float = 0.3) -> T | None:
    """Call `look` until it returns something; None after `timeout_s` seconds. Raises Interrupted for a stop."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found is not None:
            return found
        if time.monotonic() >= deadline:
            return None
        stop.wait(every_s)
