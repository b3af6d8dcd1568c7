"""Moves a published port from one container to another without refusing or cutting a connection.

    old ──P──►            old   (streams end)              new ──P──►
              redirect:   temp ──P──► (new connections)    temp (streams end, then it goes)

Every sub-step looks at the world first, so a swap that was killed anywhere is continued by running it again, and at
every moment somebody answers the port. Where redirect rules have no effect (rootless Docker, no iptables) the two
change back to back, with a gap.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orchestrator.clients.docker import ContainerFacts, Docker
from orchestrator.clients.netfilter import Netfilter
from orchestrator.errors import MigrateError
from orchestrator.steps.swap_party import side
from orchestrator.steps.swap_plan import SwapPlan
from orchestrator.steps.swap_probe import Prober, ProbeStats, who
from orchestrator.steps.swap_temp import Say, SwapFailed, Temporary, last_words, patiently, shared, wait_for

SILENT_LIMIT_S = 3.0  # nobody answers the port for so long while the old one still could: go back
RULES_SETTLE_S = 3.0


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
        self.temp = Temporary(plan, docker, self.netfilter, say)
        self.counts = Counts()
        self.handed_over = False

    def run(self) -> None:
        if not self._new_answers():
            self._leave_old()
            self._start_new()
        self._hand_over()
        self.counts.cut += self.temp.retire(self.new.facts(), self.plan.new_port)

    def tidy(self) -> None:
        """After the hand-over: the temporary gateway goes when its streams have ended, and all rules with it."""
        self._remove_rules()
        self.counts.cut += self.temp.retire(self.new.facts(), self.plan.new_port)

    def undo(self) -> None:
        """The old one back on its port, nothing of ours left; MigrateError when even that fails."""
        self.say("undo", "going back: the old one gets its port again")
        facts = self.old.facts()
        if self.new.facts() is not None:
            self.new.park(self.plan.stop_grace_s)
        self.old.serve()
        if facts is None or not facts.running:
            self._wait("the old one", lambda: self._answers_itself(self.old.facts(), self.plan.old_port))
        self.old.settle()
        self._remove_rules()
        self._wait("the port", lambda: bool(self._who()))
        self.counts.cut += self.temp.retire(self.old.facts(), self.plan.old_port)

    # The way in

    def _leave_old(self) -> None:
        facts = self.old.facts()
        if facts and facts.running:
            self.new.prepare()
            if self._redirect(facts):
                self._drain_old(facts, "closed")
            else:
                self._drain_old(facts, "quiet")
        elif self.temp.facts() is not None:
            self.counts.mode = "redirect"  # continued: the temporary one has the port already
        self.say("stop-old", "stopping the old one (kept, never re-created)")
        self.old.park(self.plan.stop_grace_s)

    def _redirect(self, old: ContainerFacts) -> bool:
        """Sends new connections to a temporary gateway; False when that is not possible here."""
        self.counts.mode = "back-to-back"
        if self.plan.redirect == "never":
            self.say("redirect", "redirecting is switched off: the two change back to back")
            return False
        temp = self.temp.ensure()
        port = temp.published(self.plan.temp.port)[0].host_port
        try:
            moves = shared(old, self.plan.old_port, temp, self.plan.temp.port)
            self.netfilter.redirect(listened(self.plan, old), self.plan.port, port, moves)
            wait_for("the redirect", lambda: self._who() == "swap", RULES_SETTLE_S, self.temp.log)
        except MigrateError as refused:
            self._remove_rules()
            self.counts.cut += self.temp.retire(old, self.plan.old_port)
            self.say("redirect", f"cannot redirect here ({refused.message}): the two change back to back")
            return False
        self.counts.mode = "redirect"
        self.say("redirect", f"new connections go to the temporary gateway on port {port}")
        return True

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
                raise SwapFailed("The temporary gateway stopped answering", evidence=self.temp.log())
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
        patiently(self.new.serve)
        self._wait("the new one", self._new_answers)

    def _hand_over(self) -> None:
        self.new.settle()
        self._remove_rules()
        self._wait("the port", lambda: self._expected(self._who()))
        self.handed_over = True
        self.say("hand-over", "the port is served by the new one")

    # Looking

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

    def _wait(self, what: str, there: Callable[[], bool]) -> None:
        wait_for(what, there, self.plan.start_s, self._last_words)

    def _remove_rules(self) -> None:
        if self.plan.redirect == "auto" and self.netfilter.remove():
            raise SwapFailed("The redirect rules could not be removed", hint=f"Comment: {self.netfilter.comment}")

    def _last_words(self) -> str:
        facts = self.new.facts()
        return last_words(self.docker, facts.name) if facts else ""


def listened(plan: SwapPlan, old: ContainerFacts) -> tuple[str, ...]:
    """Every address on which clients reach the port: Docker adds :: to a plain 0.0.0.0 by itself."""
    own = {one.host_ip for one in old.published(plan.old_port) if one.host_port == plan.port}
    return tuple(sorted(own | set(plan.listen)))


def outcome_counts(counts: Counts, stats: ProbeStats) -> dict[str, Any]:
    """What the clients saw, as the result file has it."""
    return {
        **vars(counts),
        "refused": stats.refused,
        "probes": stats.answered,
        "gap_s": round(stats.gap_s, 3),
        "drained_s": round(counts.drained_s, 3),
    }


def add_up(attempts: list[dict[str, Any]]) -> dict[str, Any]:
    """The counts of a swap that took several helpers: nothing that a killed one saw is forgotten."""
    worst = {name: max(one[name] for one in attempts) for name in ("waited_streams", "gap_s")}
    names = ("closed_idle", "cut", "refused", "probes", "drained_s")
    sums = {name: round(sum(one[name] for one in attempts), 3) for name in names}
    modes = [one["mode"] for one in attempts if one["mode"] != "none"]
    return {**worst, **sums, "mode": modes[-1] if modes else "none"}
