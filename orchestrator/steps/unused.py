"""Engines that migrate.yaml no longer names are removed: restarted for ever, they would keep their GPU."""

from __future__ import annotations

from typing import Any

from orchestrator import render
from orchestrator.clients.docker import ContainerFacts
from orchestrator.steps import Context


class RemoveUnused:
    """Stops and removes containers of services that the stack does not have any more."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def already_done(self) -> bool:
        return not self._unused()

    def do(self) -> dict[str, Any]:
        gone = self._unused()
        for one in gone:
            self.context.docker.stop(one.id)
            self.context.docker.remove(one.id)
        return {"text": f"removed {', '.join(one.service for one in gone)}"}

    def undo(self) -> None:
        """What was removed is not in migrate.yaml: nothing is missing."""

    def _unused(self) -> list[ContainerFacts]:
        # A service that compose.override.yaml adds is the user's: only engines are ours to take away.
        known = set(render.services(self.context.spec))
        found = self.context.docker.containers(project=self.context.project)
        return [one for one in found if one.service.startswith("vllm-") and one.service not in known]
