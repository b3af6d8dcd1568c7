"""Changes to the world. Each step knows whether it is done already, how to do it, and how to leave nothing behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from orchestrator.clients.docker import Compose, Docker
from orchestrator.clients.gateway import Gateway, Side
from orchestrator.events import Emit, Happening, Kind
from orchestrator.facts import Facts
from orchestrator.journal import Journal
from orchestrator.spec import Spec
from orchestrator.stop import Stop


class Action(Protocol):
    """One step's effects."""

    def already_done(self) -> bool:
        """Whether the world is as the step would leave it."""
        ...

    def do(self) -> dict[str, Any]:
        """Change the world; returns what is worth keeping in the journal (`text` is shown)."""
        ...

    def undo(self) -> None:
        """Leave nothing half-done after `do` failed."""
        ...


@dataclass(frozen=True, slots=True)
class Skip:
    """A group of a check that is left out on the user's word."""

    group: str
    reason: str


@dataclass(frozen=True, slots=True)
class Context:
    """What every step works with; `dir` is the stack's folder."""

    spec: Spec
    dir: Path
    docker: Docker
    compose: Compose
    gateway: Gateway
    journal: Journal
    emit: Emit
    stop: Stop
    facts: Facts | None = None
    skips: tuple[Skip, ...] = ()

    @property
    def project(self) -> str:
        return f"migrate-{self.spec.name}"

    def say(self, subject: str, text: str, kind: Kind = Kind.NOTE, **data: Any) -> None:
        """Emit one event."""
        self.emit(Happening(kind, subject, text, data))


def door(context: Context, side: Side, engine: str | None = None) -> tuple[str, dict[str, str]]:
    """Return the base URL and headers of the forced-side route; `engine` is for paths without a model."""
    headers = dict(context.gateway.auth_headers)
    if engine:
        headers["X-Migrate-Engine"] = engine
    return context.gateway.side_url(side), headers
