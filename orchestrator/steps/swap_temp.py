"""The temporary gateway of a port swap: it answers while the port changes hands, and goes when its streams end."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from orchestrator.clients.docker import ContainerFacts, Docker, RunSpec
from orchestrator.clients.netfilter import NAME_TRIES, Netfilter, name_taken
from orchestrator.errors import MigrateError
from orchestrator.steps.swap_plan import SwapPlan
from orchestrator.steps.swap_probe import who

TEMP_GRACE_S = 30
TEMP_BOUND_S = 900.0  # the port is served already: its streams may take their time, unless cutting is allowed
Say = Callable[[str, str], None]  # (sub-step, sentence)


class SwapFailed(MigrateError):
    """A sub-step failed; what was done must be undone."""


class Temporary:
    def __init__(self, plan: SwapPlan, docker: Docker, netfilter: Netfilter, say: Say) -> None:
        self.plan, self.docker, self.netfilter, self.say = plan, docker, netfilter, say

    def facts(self) -> ContainerFacts | None:
        """The container, when it runs."""
        facts = self.docker.find(self.plan.temp.name)
        return facts if facts and facts.running else None

    def ensure(self) -> ContainerFacts:
        """A temporary gateway that answers as such."""
        facts = self.facts()
        if facts is None:
            facts = self._run()
        port = facts.published(self.plan.temp.port)[0].host_port
        missing = [one for one in self.plan.temp.networks if one[0] not in facts.networks]
        for network, aliases in missing:
            self.docker.connect(network, facts.name, aliases)
        host = self.plan.probe_host
        wait_for(
            "the temporary gateway",
            lambda: who(host, port, self.plan.stack) == "swap",
            self.plan.start_s,
            self.log,
        )
        return self.docker.inspect(facts.name) if missing else facts

    def _run(self) -> ContainerFacts:
        temp = self.plan.temp
        self.say("temporary", f"starting a temporary gateway, {temp.name}")
        network, aliases = temp.networks[0] if temp.networks else ("", ())
        port = temp.host_port or free_port()
        spec = RunSpec(
            temp.image,
            temp.command,
            name=temp.name,
            entrypoint=temp.entrypoint or None,
            env=temp.env,
            labels={"migrate.swap": self.netfilter.comment},
            mounts=temp.mounts,
            publish=[(ip, port, temp.port) for ip in bind_addresses(self.plan.listen)],
            network=network,
            aliases=aliases,
            restart="unless-stopped",  # the rules outlive a restart of Docker: so must what they point to
        )
        patiently(lambda: self.docker.remove(temp.name), lambda: self.docker.run(spec))
        facts = self.docker.find(temp.name)
        if facts is None or not facts.running:
            raise SwapFailed("The temporary gateway did not start", evidence=self.log())
        return facts

    def retire(self, heir: ContainerFacts | None, port: int) -> int:
        """Lets it finish its streams, then removes it; whoever asks it by name gets the heir. How many were cut."""
        facts, cut = self.facts(), 0
        if facts is not None:
            moves = shared(facts, self.plan.temp.port, heir, port) if heir else []
            if moves and self.plan.redirect == "auto":
                self.netfilter.move(moves)
            cut = self._drain(facts)
            self.docker.stop(facts.name, TEMP_GRACE_S)
            self.docker.remove(facts.name)
            if moves and self.plan.redirect == "auto":
                self.netfilter.remove()
        self.docker.remove(self.plan.temp.name)
        self.netfilter.tidy()
        return cut

    def log(self) -> str:
        return last_words(self.docker, self.plan.temp.name)

    def _drain(self, facts: ContainerFacts) -> int:
        bound_s = self.plan.drain_s if self.plan.when_busy == "cut" else TEMP_BOUND_S
        left = 0
        for state in self.netfilter.drain(facts.id, self.plan.temp.port, bound_s=bound_s):
            left = state.open
            self.say("drain-temporary", f"{left} connections end on the temporary gateway")
        return left


def patiently(*actions: Callable[[], object]) -> None:
    """Does the actions, again when a docker command of a killed run was still at work on the same name."""
    for attempt in range(NAME_TRIES):
        try:
            for action in actions:
                action()
        except MigrateError as refused:
            if attempt == NAME_TRIES - 1 or not name_taken(refused):
                raise
            time.sleep(1)
        else:
            return


def wait_for(what: str, there: Callable[[], bool], seconds: float, evidence: Callable[[], str] = str) -> None:
    """Waits until it is there; SwapFailed with the evidence of then when that takes too long."""
    until = time.monotonic() + seconds
    while not there():
        if time.monotonic() > until:
            raise SwapFailed(f"Waited {seconds:.0f} s for {what} to answer, in vain", evidence=evidence())
        time.sleep(0.05)


def last_words(docker: Docker, container: str) -> str:
    """The last lines of a container's log; empty when it has none."""
    try:
        return "\n".join(docker.logs(container, tail=8))
    except MigrateError:
        return ""


def shared(giver: ContainerFacts, giver_port: int, heir: ContainerFacts, heir_port: int) -> list[tuple[str, int, str]]:
    """For each Docker network that both are on: (giver's address, its port, heir's address:port)."""
    both = giver.addresses.keys() & heir.addresses.keys()
    return [(giver.addresses[name], giver_port, f"{heir.addresses[name]}:{heir_port}") for name in sorted(both)]


def bind_addresses(listen: tuple[str, ...]) -> tuple[str, ...]:
    """Where the temporary port is published: the same addresses ("" is every one of both families in Docker)."""
    return ("",) if {"0.0.0.0", "::"} & set(listen) else listen


def free_port() -> int:
    """A TCP port that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
