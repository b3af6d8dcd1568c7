"""The two sides of a port swap: who has the port and who gets it, whatever kind of container that is."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from orchestrator.clients.docker import ContainerFacts, Docker
from orchestrator.errors import MigrateError
from orchestrator.steps.swap_plan import ComposeService, Party, PlainContainer


class Side(Protocol):
    """Every method may be called again after it was killed half-way."""

    def facts(self) -> ContainerFacts | None:
        """The container now; None when there is none (yet)."""

    def prepare(self) -> None:
        """Does ahead of time what makes serve() quick."""

    def serve(self) -> None:
        """Starts it on its port."""

    def settle(self) -> None:
        """Once it serves: has Docker keep it running."""

    def park(self, grace_s: int) -> None:
        """Stops it in a way that a restart of Docker does not bring it back."""


class ContainerSide:
    def __init__(self, docker: Docker, party: PlainContainer) -> None:
        self._docker, self._party = docker, party

    def facts(self) -> ContainerFacts | None:
        return self._docker.find(self._party.name) or self._docker.find(self._party.parked)

    def prepare(self) -> None:
        facts = self._required()
        if facts.name != self._party.name:
            self._docker.rename(facts.name, self._party.name)

    def serve(self) -> None:
        self.prepare()
        self._docker.start(self._party.name)

    def settle(self) -> None:
        if self._required().restart != self._party.restart:
            self._docker.set_restart(self._party.name, self._party.restart)

    def park(self, grace_s: int) -> None:
        """All but the stop goes first: the shorter the time between one's stop and the other's start, the better.

        A daemon that restarts meanwhile must not bring it back beside its successor, so its policy is the first.
        """
        facts = self._required()
        if facts.restart != "no":
            self._docker.set_restart(facts.name, "no")
        if facts.name != self._party.parked:
            self._docker.rename(facts.name, self._party.parked)
        if facts.running:
            self._docker.stop(facts.id, grace_s)

    def _required(self) -> ContainerFacts:
        facts = self.facts()
        if facts is None:
            raise MigrateError(
                f"The container {self._party.name} is gone (it is not parked as {self._party.parked} either)",
                hint="See what is there: docker ps --all",
            )
        return facts


class ComposeSide:
    def __init__(self, docker: Docker, party: ComposeService) -> None:
        self._docker, self._party = docker, party
        files, env = [Path(one) for one in party.files], [Path(one) for one in party.env_files]
        self._compose = docker.compose(party.project, Path(party.directory), files, env)
        self._prepared = ""  # id of the container that was just created as the files say

    def facts(self) -> ContainerFacts | None:
        found = self._docker.containers(project=self._party.project, service=self._party.service)
        return max(found, key=lambda one: one.running, default=None)

    def prepare(self) -> None:
        self._compose.create([self._party.service], no_deps=True)
        facts = self.facts()
        self._prepared = facts.id if facts else ""

    def serve(self) -> None:
        """A container that was just created needs a start only: a second less of waiting than `up`."""
        if self._prepared:
            self._docker.start(self._prepared)
        elif not ((facts := self.facts()) and facts.running):
            self._compose.up([self._party.service], no_deps=True)

    def settle(self) -> None:
        """Nothing: its restart policy is in the Compose file."""

    def park(self, grace_s: int) -> None:
        """A stopped service stays stopped with `unless-stopped`, which our own templates use."""
        facts = self.facts()
        if facts and facts.running:
            self._docker.stop(facts.id, grace_s)


def side(docker: Docker, party: Party) -> Side:
    return ContainerSide(docker, party) if isinstance(party, PlainContainer) else ComposeSide(docker, party)
