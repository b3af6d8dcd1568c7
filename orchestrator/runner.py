"""Runs a plan: intent before each step, outcome after; what is done already is skipped, so a re-run continues."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from orchestrator.errors import ExitCode, MigrateError, NeedsHuman
from orchestrator.events import Emit, Happening, Kind
from orchestrator.journal import Journal
from orchestrator.plan import Plan, Step
from orchestrator.steps import Action
from orchestrator.stop import Interrupted, Stop


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
        with _heard(stop):
            action = build(step)
            if action.already_done():
                emit(Happening(Kind.SKIP, str(step), "already so"))
                continue
            if step.touches_live:
                confirm(step)
            _run_step(step, action, journal, emit, stop)


@contextmanager
def _heard(stop: Stop) -> Iterator[None]:
    """Ctrl-C on a terminal also reaches the docker command that runs: what fails by it is an interruption."""
    try:
        yield
    except MigrateError as error:
        if error.exit_code is ExitCode.FAILED:
            stop.check()
        raise


def _run_step(step: Step, action: Action, journal: Journal, emit: Emit, stop: Stop) -> None:
    subject = str(step)
    journal.append("intent", subject, step.cause)
    emit(Happening(Kind.START, subject, step.cause))
    started = time.monotonic()
    try:
        with _heard(stop):
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
    # A disk that is full must not keep the step from being undone.
    with suppress(MigrateError):
        journal.append("outcome", subject, word, {"error": text})
    emit(Happening(Kind.FAIL, subject, word))
    if isinstance(error, KeyboardInterrupt):
        return
    try:
        action.undo()
    except Exception as second:  # noqa: BLE001 - whatever it was, the world is left half-changed
        with suppress(MigrateError):
            journal.append("outcome", subject, "undo failed", {"error": str(second)})
        message = f"{text}; and undoing it failed too: {second}"
        hint = second.hint if isinstance(second, MigrateError) else ""
        raise NeedsHuman(message, hint=hint or "see where it stands: migrate status") from error
