"""Gates: checks run as steps; a verdict other than pass stops the command with its evidence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any, Literal

from orchestrator.checks import Side, Verdict
from orchestrator.checks.health import check_health
from orchestrator.clients.openai import OpenAI
from orchestrator.decide.adapters import inside
from orchestrator.errors import GateRefused, Inconclusive
from orchestrator.events import Kind
from orchestrator.plan.edits import evidence_digest
from orchestrator.rendering.engine import served_names
from orchestrator.state import Event, RouteState
from orchestrator.steps import Context, door
from orchestrator.steps.evidence import keep_raw, keep_verdict, verdict_path

RANK = [
    RouteState.PLANNED, RouteState.DEPLOYED, RouteState.HEALTHY, RouteState.MATCHED, RouteState.PROVEN,
]


FALLIBLE = (RouteState.HEALTHY, RouteState.MATCHED, RouteState.PROVEN, RouteState.ROLLED_BACK)


class Gate:
    """One check as a step. Its evidence stays in the journal; it expires with the spec or the engine.

    `groups`: parts of the check that `up --skip` may leave out. `judge` may set `raw`, JSON objects one a line, from
    which its verdict can be recomputed: they are kept beside the verdict, and written before it.
    """

    check = ""
    groups: tuple[str, ...] = ()
    event = Event.HEALTH_PASSED
    before = RouteState.DEPLOYED

    def __init__(self, context: Context, target: str) -> None:
        self.context = context
        self.target = target
        self.raw: Iterable[str] = ()

    def already_done(self) -> bool:
        states = self.context.journal.states().routes
        passed = all(self._beyond(states[model]) for model in self.models())
        last = self.context.journal.last("verdict", f"{self.check} {self.target}")
        same = last is not None and last.data.get("spec") == self.digest()
        return passed and same

    def skipped(self) -> dict[str, str]:
        """Return the groups of this check that are left out, with the reason that was given."""
        return {one.group: one.reason for one in self.context.skips if one.group in self.groups}

    def do(self) -> dict[str, Any]:
        for group, reason in self.skipped().items():
            self.context.journal.append("skip", f"{self.check} {self.target}", group, {"reason": reason})
            self.context.say("skip", f"{self.check} {self.target}: {group} is left out: {reason}", Kind.WARN)
        verdict = self.judge()
        self._keep(verdict)
        self.context.say("verdict", f"{self.check} {self.target}: {verdict.summary}", Kind.VERDICT,
                         result=verdict.result)
        if verdict.result == "fail":
            self._failed()
            raise GateRefused(
                f"{self.check} of {self.target} failed: {verdict.summary}",
                evidence=self._evidence_note(), hint="correct it, then run migrate up again: it goes on here",
            )
        if verdict.result == "inconclusive":
            raise Inconclusive(
                f"{self.check} of {self.target} has no verdict: {verdict.summary}",
                evidence=self._evidence_note(), hint="run migrate up again: it goes on here",
            )
        for model in self.models():
            self.passed(model)
        return {"text": "passed", "summary": verdict.summary}

    def digest(self) -> str:
        """Return what the evidence of this gate depends on, as a digest."""
        return evidence_digest(self.context.spec, self.check, self.target)

    def passed(self, model: str) -> None:
        """Move the route on; one that carries traffic already stays where it is."""
        if self.context.journal.states().routes[model] is self.before:
            self.context.journal.move("route", model, self.event)

    def _failed(self) -> None:
        for model in self.models():
            if self.context.journal.states().routes[model] in FALLIBLE:
                self.context.journal.move("route", model, Event.FAILED)

    def undo(self) -> None:
        """A check changes nothing."""

    def judge(self) -> Verdict:
        raise NotImplementedError

    def models(self) -> list[str]:
        return [self.target]

    def _beyond(self, state: RouteState) -> bool:
        return state not in RANK or RANK.index(state) > RANK.index(self.before)

    def _keep(self, verdict: Verdict) -> None:
        path, skipped = verdict_path(self.context.dir, verdict), self.skipped()
        raw = keep_raw(path.with_suffix(".jsonl"), self.raw)
        told = {"skipped": skipped, **verdict.evidence} if skipped else verdict.evidence
        keep_verdict(path, replace(verdict, evidence=told), raw)
        self.context.journal.append(
            "verdict", f"{self.check} {self.target}", verdict.result,
            {"summary": verdict.summary, "evidence": str(path.relative_to(self.context.dir)),
             "raw": asdict(raw) if raw else None, "spec": self.digest()},
        )  # fmt: skip

    def _evidence_note(self) -> str:
        path = verdict_path(self.context.dir, Verdict(self.check, self.target, "fail", ""))
        return f"the evidence is in {path}"

    def _side(self, name: Literal["ollama", "vllm"]) -> Side:
        return Side(name, *door(self.context, name, self._engine() if name == "vllm" else None))

    def _engine(self) -> str | None:
        return self.context.spec.routes[self.target].engine


class Health(Gate):
    """Process answers, serves the right model under the right names, one token comes back."""

    check = "health"

    def models(self) -> list[str]:
        return [model for model, route in self.context.spec.migrating().items() if route.engine == self.target]

    def judge(self) -> Verdict:
        """Ask every replica; the first that fails is the verdict."""
        replicas = self.context.spec.replicas(self.target)
        found = {one: self._judge(one, alone=len(replicas) == 1) for one in replicas}
        failed = next((one for one in replicas if not found[one].passed), None)
        verdict = found[failed or self.target]
        if len(replicas) == 1:
            return verdict
        which = f"replica {failed}: " if failed else f"each of {len(replicas)} replicas "
        evidence = {one: each.evidence for one, each in found.items()}
        return Verdict(self.check, self.target, verdict.result, which + verdict.summary, {"replicas": evidence})

    def _judge(self, replica: str, *, alone: bool) -> Verdict:
        engine = self.context.spec.engines[self.target]
        side = self._side("vllm")
        headers = side.headers if alone else {**side.headers, "X-Migrate-Replica": replica}
        names = served_names(self.context.spec, self.target)
        with OpenAI(side.base_url, headers=headers) as client:
            return check_health(
                client, engine.repo, names, target=self.target,
                kind="embedding" if engine.task == "embed" else "generate",
                adapters={name: inside(engine, name) for name in engine.adapters},
            )

    def _engine(self) -> str | None:
        return self.target
