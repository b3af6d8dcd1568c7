"""Gates: checks run as steps; a verdict other than pass stops the command with its evidence."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Literal

from orchestrator.checks import Side, Verdict
from orchestrator.checks.health import check_health
from orchestrator.checks.load import LoadThresholds, judge_load, run_load
from orchestrator.checks.loadplan import LoadPlan, closed_levels
from orchestrator.checks.parity import check_parity
from orchestrator.checks.prompts import load_prompts
from orchestrator.checks.vectors import check_vectors
from orchestrator.clients.openai import OpenAI
from orchestrator.decide.adapters import inside
from orchestrator.errors import GateRefused, Inconclusive
from orchestrator.events import Kind
from orchestrator.plan.edits import evidence_digest
from orchestrator.rendering.engine import served_names
from orchestrator.state import Event, RouteState
from orchestrator.steps import Context, door

RANK = [
    RouteState.PLANNED, RouteState.DEPLOYED, RouteState.HEALTHY, RouteState.MATCHED, RouteState.PROVEN,
]


FALLIBLE = (RouteState.HEALTHY, RouteState.MATCHED, RouteState.PROVEN, RouteState.ROLLED_BACK)


class Gate:
    """One check as a step. Its evidence stays in the journal; it expires with the spec or the engine."""

    check = ""
    event = Event.HEALTH_PASSED
    before = RouteState.DEPLOYED

    def __init__(self, context: Context, target: str) -> None:
        self.context = context
        self.target = target

    def already_done(self) -> bool:
        states = self.context.journal.states().routes
        passed = all(self._beyond(states[model]) for model in self.models())
        last = self.context.journal.last("verdict", f"{self.check} {self.target}")
        same = last is not None and last.data.get("spec") == self.digest()
        return passed and same

    def do(self) -> dict[str, Any]:
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
        report = self.context.dir / "report"
        report.mkdir(exist_ok=True)
        path = self._evidence_path()
        path.write_text(json.dumps({"schema": 1, "at": time.time(), **verdict.to_json()}, indent=1), encoding="utf-8")
        self.context.journal.append(
            "verdict", f"{self.check} {self.target}", verdict.result,
            {"summary": verdict.summary, "evidence": str(path.relative_to(self.context.dir)),
             "spec": self.digest()},
        )

    def _evidence_path(self) -> Path:
        safe = "".join(c if c.isalnum() or c in ".-" else "-" for c in self.target)
        return self.context.dir / "report" / f"{self.check}-{safe}.json"

    def _evidence_note(self) -> str:
        return f"the evidence is in {self._evidence_path()}"

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


class ParityGate(Gate):
    """Both sides answer the same prompts in the same form, plain and streaming."""

    check = "parity"
    event = Event.PARITY_PASSED
    before = RouteState.HEALTHY

    def judge(self) -> Verdict:
        terms = self.context.spec.parity
        prompts = load_prompts(self.context.dir / terms.prompts) if terms.prompts else None
        return check_parity(
            self._side("ollama"), self._side("vllm"), self.target,
            prompts=prompts, names=served_names(self.context.spec, self._engine() or ""),
            similarity=terms.similarity, max_tokens=terms.max_tokens, progress=self._progress,
        )

    def _progress(self, done: int, of: int, prompt: str) -> None:
        self.context.say(f"check-parity {self.target}", f"{done} of {of}: {prompt}", Kind.WAIT, reason="asking")
        self.context.stop.check()


class VectorGate(Gate):
    """Both sides give the same vectors for the same inputs. There is no load gate for embeddings."""

    check = "vectors"
    event = Event.PARITY_PASSED
    before = RouteState.HEALTHY

    def judge(self) -> Verdict:
        old, new = self._side("ollama"), self._side("vllm")
        with OpenAI(old.base_url, headers=old.headers) as ollama, OpenAI(new.base_url, headers=new.headers) as vllm:
            return check_vectors(ollama, vllm, self.target, least=self.context.spec.parity.cosine)

    def passed(self, model: str) -> None:
        super().passed(model)
        if self.context.journal.states().routes[model] is RouteState.MATCHED:
            self.context.journal.move("route", model, Event.LOAD_PASSED)


class LoadGate(Gate):
    """Levels of closed-loop users on both sides: latency, throughput, errors."""

    check = "load"
    event = Event.LOAD_PASSED
    before = RouteState.MATCHED

    def judge(self) -> Verdict:
        load = self.context.spec.load
        plan = LoadPlan(
            sides=(self._side("ollama"), self._side("vllm")),
            model=self.target,
            levels=closed_levels(load.users, load.requests_per_user),
            max_tokens=load.max_tokens,
            timeout_s=load.timeout,
        )
        thresholds = LoadThresholds(
            latency_factor=load.latency_factor, throughput_factor=load.throughput_factor, error_rate=load.error_rate
        )
        return judge_load(run_load(plan, self._progress), thresholds)

    def _progress(self, seen: dict[str, Any]) -> None:
        level = f"{seen['users']} users on {seen['side']}"
        self.context.say(
            f"check-load {self.target}", f"{level}: {seen['done']} of {seen['of']}", Kind.WAIT, reason=level
        )
        self.context.stop.check()
