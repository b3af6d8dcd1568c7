"""The facts of `plan`: from what runs here, or from a file, with whatever evidence of traffic the flags name."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.clients.docker import Docker
from orchestrator.console import Console
from orchestrator.events import Happening, Kind
from orchestrator.facts import Facts
from orchestrator.observe import world
from orchestrator.spec import Spec


@dataclass(frozen=True, slots=True)
class Sources:
    """Where to look, as the flags say it; nothing said: at what runs here."""

    ollama: str | None = None
    facts: str | None = None        # a file of `migrate facts`
    volume: str | None = None       # a folder of models that no server reads
    gpus: tuple[str, ...] = ()      # GPUs to plan for instead of those here
    logs: tuple[str, ...] = ()      # files, folders, or - for standard input
    watch: str | None = None        # how long, such as 10m
    users: int | None = None

    @property
    def elsewhere(self) -> bool:
        """Whether the plan is for facts that nothing here can confirm."""
        return self.facts is not None or self.volume is not None or bool(self.gpus)


def look(console: Console, sources: Sources, docker: Docker, written: Spec | None) -> Facts:
    """Freeze the world as the flags ask for it."""
    console.emit(Happening(Kind.WAIT, "plan", "looking at Ollama, GPUs and Docker"))
    return world.look(sources.ollama or (written.ollama.url if written else None), docker)
