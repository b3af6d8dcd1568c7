"""Runs a plan: intent before each step, outcome after; what is done already is skipped, so a re-run continues."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

from orchestrator.errors import ExitCode, MigrateError
from orchestrator.events import Emit, Happening, Kind
from orchestrator.journal import Journal
from orchestrator.plan import Plan, Step


class Interrupted(MigrateError):
    exit_code = ExitCode.INTERRUPTED


class Action(Protocol):
    """One step's effects."""

    def already_done(self) -> bool:
        """Whether the world is as the step would leave it."""
        ...

    def do(self) -> dict[str, Any]:
        """Change the world; returns what is worth keeping in the journal."""
        ...

    def undo(self) -> None:
        """Leave nothing half-done after `do` failed."""
        ...


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
            raise Interrupted(f"{word}; nothing is lost", hint="run the same command again to go on", code=self.code)

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


def run_plan(
    plan: Plan,
    build: Callable[[Step], Action],
    journal: Journal,
    emit: Emit,
    stop: Stop,
    confirm: Callable[[Step], None],
) -> None:
    """Run the steps in order. A failed step undoes itself; if that fails too, both errors are raised."""
    for step in plan.steps:
        stop.check()
        action = build(step)
        if action.already_done():
            emit(Happening(Kind.SKIP, str(step), "already so"))
            continue
        if step.touches_live:
            confirm(step)
        _run_step(step, action, journal, emit)


def _run_step(step: Step, action: Action, journal: Journal, emit: Emit) -> None:
    subject = str(step)
    journal.append("intent", subject, step.cause)
    emit(Happening(Kind.START, subject, step.cause))
    started = time.monotonic()
    try:
        outcome = action.do()
    except BaseException as error:
        _after_failure(subject, action, error, journal, emit)
        raise
    seconds = round(time.monotonic() - started, 1)
    journal.append("outcome", subject, "done", {**outcome, "seconds": seconds})
    emit(Happening(Kind.DONE, subject, str(outcome.get("text", "done")), {**outcome, "seconds": seconds}))


def _after_failure(subject: str, action: Action, error: BaseException, journal: Journal, emit: Emit) -> None:
    text = str(error) or type(error).__name__
    word = "interrupted" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed"
    journal.append("outcome", subject, word, {"error": text})
    emit(Happening(Kind.FAIL, subject, word))
    if isinstance(error, KeyboardInterrupt):
        return
    try:
        action.undo()
    except MigrateError as second:
        journal.append("outcome", subject, "undo failed", {"error": str(second)})
        message = f"{text}; and undoing it failed too: {second}"
        raise MigrateError(message, hint=second.hint, code=ExitCode.HUMAN) from error
