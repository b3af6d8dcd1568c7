"""Removes what the stack made: containers, network, and volumes if asked."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from orchestrator.errors import MigrateError, WrongState
from orchestrator.events import Kind
from orchestrator.state import Event, StackState
from orchestrator.steps import Context
from orchestrator.steps.takeover import swap_volume
from orchestrator.stop import poll


class RemoveStack:
    """`docker compose down` of the stack, once the original has its port back."""

    def __init__(self, context: Context, *, volumes: bool) -> None:
        self.context = context
        self.volumes = volumes

    def already_done(self) -> bool:
        return not self.context.docker.containers(project=self.context.project) and not (
            self.volumes and self.context.docker.volumes(self.context.project)
        )

    def do(self) -> dict[str, Any]:
        if self.context.spec.ollama.container and self.context.journal.states().stack is StackState.TAKEN_OVER:
            raise WrongState("the gateway still has the port", hint="run: migrate rollback --restore")
        sizes = self._sizes()
        poll(self._quiet, self.context.spec.takeover.drain, self.context.stop)
        self.context.compose.down(volumes=self.volumes)
        self.context.journal.move("stack", self.context.spec.name, Event.RESTORED)
        with suppress(MigrateError):
            self.context.docker.volume_remove(swap_volume(self.context))
        word = "removed" if self.volumes else "kept"
        shown = ", ".join(f"{name} {_human(size)}" for name, size in sizes.items()) or "none"
        return {"text": f"containers and network removed; volumes {word}: {shown}", "volumes": sizes}

    def undo(self) -> None:
        """What is gone is gone; running it again removes the rest."""

    def _quiet(self) -> bool | None:
        """Whether no answer runs through the gateway; what is waited for is said. nginx then waits once more."""
        try:
            live = self.context.gateway.status().live
        except MigrateError:
            return True     # answers run through the gateway: without it there are none
        if live.ollama + live.vllm == 0:
            return True
        known = {f"{model} on {side}": n for model, sides in live.by_route.items() for side, n in sides.items() if n}
        parts = [f"{n} of {where}" for where, n in known.items()]
        more = live.ollama + live.vllm - sum(known.values())
        parts += [f"{more} of other models"] if more > 0 else []
        most = f"at most {self.context.spec.takeover.drain:.0f} s"
        self.context.say("remove-stack", f"waiting for running answers ({most}): {', '.join(parts)}", Kind.WAIT)
        return None

    def _sizes(self) -> dict[str, int]:
        mine = self.context.docker.volumes(self.context.project)
        if not mine:
            return {}
        sizes = self.context.docker.volume_bytes()
        return {name: sizes.get(name, 0) for name in mine}


def _human(size: int) -> str:
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{size} B"
