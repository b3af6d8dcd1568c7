"""What is approved, and the sign of life that keeps the guard from stepping back to it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from typing import Self

from orchestrator.errors import ExitCode, MigrateError
from orchestrator.events import Kind
from orchestrator.journal import Journal
from orchestrator.steps import Context


def approved(context: Context) -> dict[str, float]:
    """Return the last approved weight of every migrating route, from the journal."""
    return approved_of(context.journal, context.spec.migrating())


def approved_of(journal: Journal, models: Iterable[str]) -> dict[str, float]:
    """Return the last approved weight (percent) of each of these routes."""
    weights = dict.fromkeys(models, 0.0)
    for entry in journal.entries("approved"):
        if entry.subject in weights:
            weights[entry.subject] = float(entry.data["weight"])
    return weights


def standing(context: Context) -> dict[str, float]:
    """Return what is approved and in effect: the guard, or a rollback, may have lowered a weight since."""
    weights = approved(context)
    if not any(weights.values()):
        return weights
    now = context.gateway.status().weights
    return {model: min(weight, now.get(model, 0.0)) for model, weight in weights.items()}


def held(journal: Journal) -> dict[str, float]:
    """Return the weights (percent) that an edit has taken away for a while and owes; a rollback cancels the debt."""
    owed = {entry.subject: float(entry.data["weight"]) for entry in journal.entries("held")}
    return {model: weight for model, weight in owed.items() if weight > 0}


def settle_debt(journal: Journal, models: Iterable[str], why: str) -> None:
    """Write down that nothing is owed to these routes any more."""
    owed = held(journal)
    for model in models:
        if model in owed:
            journal.append("held", model, why, {"weight": 0.0})


class Lease:
    """Tells the guard that somebody watches the cutover; when this falls silent the guard steps back."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._owner = f"migrate cutover, pid {os.getpid()}"
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Self:
        self._send()
        self._thread.start()
        return self

    def __exit__(self, _kind: object, left: BaseException | None, _trace: object) -> None:
        self._end.set()
        self._thread.join(timeout=10)
        stepped_back = isinstance(left, MigrateError) and left.exit_code is not ExitCode.HUMAN
        if left is not None and not stepped_back:
            return      # the guard steps back when the lease has run out
        try:
            self.context.gateway.release(self._owner)
        except MigrateError as error:
            self.context.say("lease", f"not released, it runs out by itself: {error.message}", Kind.WARN)

    def _renew(self) -> None:
        while not self._end.wait(self.context.spec.cutover.lease / 3):
            try:
                self._send()
            except MigrateError:
                continue    # the next try comes before the lease runs out

    def _send(self) -> None:
        seconds = self.context.spec.cutover.lease
        self.context.gateway.lease(self._owner, seconds, approved(self.context))
