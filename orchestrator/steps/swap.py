"""Moves a published port from one container to another without refusing or cutting a connection.

    old ──P──►            old   (streams end)              new ──P──►
              redirect:   temp ──P──► (new connections)    temp (streams end, then it goes)

Every sub-step looks at the world first, so a swap that was killed anywhere is continued by running it again, and at
every moment somebody answers the port. Where redirect rules have no effect (rootless Docker, no iptables) the two
change back to back, with a gap. Sources of the order and of its traps: ARCHITECTURE.md, "Taking over a port".
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orchestrator.clients.docker import ContainerFacts, Docker, RunSpec
from orchestrator.clients.netfilter import NAME_TRIES, Netfilter, name_taken
from orchestrator.errors import MigrateError
from orchestrator.steps.swap_party import side
from orchestrator.steps.swap_plan import SwapPlan
from orchestrator.steps.swap_probe import Prober, ProbeStats, who

SILENT_LIMIT_S = 3.0  # nobody answers the port for so long while the old one still could: go back
RULES_SETTLE_S = 3.0
TEMP_GRACE_S = 30
TEMP_BOUND_S = 900.0  # the port is served already: its streams may take their time, unless cutting is allowed
Say = Callable[[str, str], None]  # (sub-step, sentence)


class SwapFailed(MigrateError):
    """A sub-step failed; what was done must be undone."""


@dataclass
class Counts:
    waited_streams: int = 0
    closed_idle: int = 0
    cut: int = 0
    drained_s: float = 0.0
    mode: str = "none"


class Swap:
    """One port swap. `run` does it, `undo` puts everything back."""

    def __init__(self, plan: SwapPlan, docker: Docker, prober: Prober, say: Say) -> None:
        self.plan, self.docker, self.prober, self.say = plan, docker, prober, say
        self.netfilter = Netfilter(docker, plan.sidecar_image, plan.stack)
        self.old, self.new = side(docker, plan.old), side(docker, plan.new)
        self.counts = Counts()
        self.handed_over = False

    def run(self) -> None:
        if not self._new_answers():
            self._leave_old()
            self._start_new()
        self._hand_over()
        self._retire_temp(self.new.facts(), self.plan.new_port)

    def tidy(self) -> None:
        """After the hand-over: the temporary gateway goes when its streams have ended, and all rules with it."""
        self._remove_rules()
        self._retire_temp(self.new.facts(), self.plan.new_port)

    def undo(self) -> None:
        """The old one back on its port, nothing of ours left; MigrateError when even that fails."""
        self.say("undo", "going back: the old one gets its port again")
        facts = self.old.facts()
        if facts is None or not facts.running:
            new = self.new.facts()
            if new and new.running:
                self.new.park(self.plan.stop_grace_s)
            self.old.serve()
            self._wait_for("the old one", lambda: self._answers_itself(self.old.facts(), self.plan.old_port))
        self._remove_rules()
        self._wait_for("the port", lambda: bool(self._who()))
        self._retire_temp(self.old.facts(), self.plan.old_port)

    # The way in

    def _leave_old(self) -> None:
        facts = self.old.facts()
        if facts and facts.running:
            self.new.prepare()
            if self._redirect(facts):
                self._drain_old(facts, "closed")
            else:
                self._drain_old(facts, "quiet")
        elif self._temp() is not None:
            self.counts.mode = "redirect"  # continued: the temporary one has the port already
        self.say("stop-old", "stopping the old one (kept, never re-created)")
        self.old.park(self.plan.stop_grace_s)

    def _redirect(self, old: ContainerFacts) -> bool:
        """Sends new connections to a temporary gateway; False when that is not possible here."""
        self.counts.mode = "back-to-back"
        if self.plan.redirect == "never":
            self.say("redirect", "redirecting is switched off: the two change back to back")
            return False
        temp = self._ensure_temp()
        port = temp.published(self.plan.temp.port)[0].host_port
        try:
            moves = shared(old, self.plan.old_port, temp, self.plan.temp.port)
            self.netfilter.redirect(self.plan.listen, self.plan.port, port, moves)
            self._wait_for("the redirect", lambda: self._who() == "swap", RULES_SETTLE_S)
        except MigrateError as refused:
            self._remove_rules()
            self._retire_temp(old, self.plan.old_port)
            self.say("redirect", f"cannot redirect here ({refused.message}): the two change back to back")
            return False
        self.counts.mode = "redirect"
        self.say("redirect", f"new connections go to the temporary gateway on port {port}")
        return True

    def _ensure_temp(self) -> ContainerFacts:
        """A temporary gateway that answers as such."""
        facts = self._temp()
        if facts is None:
            facts = self._run_temp()
        port = facts.published(self.plan.temp.port)[0].host_port
        missing = [one for one in self.plan.temp.networks if one[0] not in facts.networks]
        for network, aliases in missing:
            self.docker.connect(network, facts.name, aliases)
        host = self.plan.probe_host
        self._wait_for("the temporary gateway", lambda: who(host, port, self.plan.stack) == "swap")
        return self.docker.inspect(facts.name) if missing else facts

    def _run_temp(self) -> ContainerFacts:
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
        self._patiently(lambda: self.docker.remove(temp.name), lambda: self.docker.run(spec))
        facts = self.docker.find(temp.name)
        if facts is None or not facts.running:
            raise SwapFailed("The temporary gateway did not start", evidence=self._log(temp.name))
        return facts

    def _patiently(self, *actions: Callable[[], object]) -> None:
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

    def _drain_old(self, facts: ContainerFacts, until: str) -> None:
        """Waits for the streams of the old one; at the bound: cut or abort, as the plan says."""
        start, busy = time.monotonic(), 0
        for state in self.netfilter.drain(facts.id, self.plan.old_port, bound_s=self.plan.drain_s, until=until):
            busy = state.busy if until == "quiet" else state.open
            self.counts.waited_streams = max(self.counts.waited_streams, state.busy)
            self.counts.closed_idle = state.closed
            left = f"{state.busy} running, {state.open} connections"
            self.say("drain", f"waiting for the streams of the old one: {left}, {time.monotonic() - start:.0f} s")
            if self.prober.stats().silent_s > SILENT_LIMIT_S:
                raise SwapFailed("The temporary gateway stopped answering", evidence=self._log(self.plan.temp.name))
        self.counts.drained_s = time.monotonic() - start
        if busy and self.plan.when_busy == "abort":
            raise SwapFailed(
                f"{busy} connections to the old one were still open after {self.plan.drain_s:.0f} s",
                hint="Try again when less is going on, allow a longer wait, or allow that they are cut.",
            )
        self.counts.cut += busy

    # The way out

    def _start_new(self) -> None:
        self.say("start-new", "starting the new one on the port")
        self._patiently(self.new.serve)
        self._wait_for("the new one", self._new_answers)

    def _hand_over(self) -> None:
        self._remove_rules()
        self._wait_for("the port", lambda: self._expected(self._who()))
        self.handed_over = True
        self.say("hand-over", "the port is served by the new one")

    def _retire_temp(self, heir: ContainerFacts | None, port: int) -> None:
        """Lets the temporary gateway finish its streams, then removes it; whoever asks it by name gets the heir."""
        facts = self._temp()
        if facts is not None:
            moves = shared(facts, self.plan.temp.port, heir, port) if heir else []
            if moves and self.plan.redirect == "auto":
                self.netfilter.move(moves)
            self._drain_temp(facts)
            self.docker.stop(facts.name, TEMP_GRACE_S)
            self.docker.remove(facts.name)
            if moves:
                self._remove_rules()
        self.docker.remove(self.plan.temp.name)

    def _drain_temp(self, facts: ContainerFacts) -> None:
        bound_s = self.plan.drain_s if self.plan.when_busy == "cut" else TEMP_BOUND_S
        left = 0
        for state in self.netfilter.drain(facts.id, self.plan.temp.port, bound_s=bound_s):
            left = state.open
            self.say("drain-temporary", f"{left} connections end on the temporary gateway")
        self.counts.cut += left

    # Looking

    def _temp(self) -> ContainerFacts | None:
        facts = self.docker.find(self.plan.temp.name)
        return facts if facts and facts.running else None

    def _who(self) -> str:
        return who(self.plan.probe_host, self.plan.port, self.plan.stack)

    def _expected(self, role: str) -> bool:
        return role == ("final" if self.plan.serves == "gateway" else "ollama")

    def _new_answers(self) -> bool:
        """Whether the new one runs and answers at its own address, whoever has the port."""
        facts = self.new.facts()
        if facts is None or not facts.running:
            return False
        return any(self._expected(who(ip, self.plan.new_port, self.plan.stack)) for ip in facts.addresses.values())

    def _answers_itself(self, facts: ContainerFacts | None, port: int) -> bool:
        if facts is None or not facts.running:
            return False
        return any(who(ip, port, self.plan.stack) for ip in facts.addresses.values())

    def _wait_for(self, what: str, there: Callable[[], bool], seconds: float = 0.0) -> None:
        bound = seconds or self.plan.start_s
        until = time.monotonic() + bound
        while not there():
            if time.monotonic() > until:
                raise SwapFailed(f"Waited {bound:.0f} s for {what} to answer, in vain", evidence=self._last_words())
            time.sleep(0.05)

    def _remove_rules(self) -> None:
        if self.plan.redirect == "auto" and self.netfilter.remove():
            raise SwapFailed("The redirect rules could not be removed", hint=f"Comment: {self.netfilter.comment}")

    def _last_words(self) -> str:
        facts = self.new.facts()
        return self._log(facts.name) if facts else ""

    def _log(self, container: str) -> str:
        try:
            return "\n".join(self.docker.logs(container, tail=8))
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


def outcome_counts(counts: Counts, stats: ProbeStats) -> dict[str, Any]:
    """What the clients saw, as the result file has it."""
    return {
        **vars(counts),
        "refused": stats.refused,
        "probes": stats.answered,
        "gap_s": round(stats.gap_s, 3),
        "drained_s": round(counts.drained_s, 3),
    }
