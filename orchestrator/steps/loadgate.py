"""The load gate: users on both sides, pairs of runs until the verdict stands, and every sample kept beside it."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

from orchestrator.checks import Verdict
from orchestrator.checks.compare import MOST_PAIRS, looks
from orchestrator.checks.livecost import LEVEL_S, Prober, live_cost
from orchestrator.checks.load import LoadResults, LoadThresholds, judge_load, run_load
from orchestrator.checks.loadjudge import wants_pairs
from orchestrator.checks.loadlengths import lengths_of
from orchestrator.checks.loadplan import JUDGING_N, LoadPlan
from orchestrator.checks.loadshape import Level
from orchestrator.events import Kind
from orchestrator.facts import Facts
from orchestrator.journal import Journal
from orchestrator.spec import Spec
from orchestrator.state import Event, RouteState
from orchestrator.steps.verify import Gate

_FEW_N = 22         # requests of a run: three of them give a p95
_SHOWING_N = 10     # requests: enough for a median with an interval

_MANY = 1000        # requests of a user: more than the level has time for
_SEED_APART = 1000


class LoadGate(Gate):
    """Levels of closed-loop users on both sides: latency, throughput, errors, objectives."""

    check = "load"
    event = Event.LOAD_PASSED
    before = RouteState.MATCHED

    def judge(self) -> Verdict:
        about = judging_level(self.context.spec, self.target, self.context.facts)
        terms = thresholds(self.context.spec, about["users"])
        ends = time.monotonic() + self.context.spec.load.budget
        first, *later = looks(self.context.spec.load.pairs)
        results = self._first(about, first)
        verdict = judge_load(results, terms)
        for until in later:
            left = ends - time.monotonic()
            if not wants_pairs(verdict.evidence):
                break
            if left <= 0:
                self.context.say(f"check-load {self.target}", "no further runs: load.budget is over", Kind.WARN)
                break
            results = results.and_then(self._more(about, results, until, left))
            verdict = judge_load(results, terms)
        if verdict.result == "pass" and self.context.spec.load.live_cost and shares_gpu(self.context.spec, self.target):
            results = replace(results, probes=self._live_cost(about))
            verdict = judge_load(results, terms)
        self.raw = results.lines(terms)
        return verdict

    def _live_cost(self, about: dict[str, Any]) -> list[dict[str, Any]]:
        """Load vLLM once more, alone, while Ollama is asked short questions."""
        prober = Prober(self._side("ollama"), self.target)
        prober.few("before", check=self.context.stop.check)
        level = Level(about["users"], about["users"] * _MANY)
        plan = replace(self._plan(), sides=(self._side("vllm"),), levels=(level,), level_s=LEVEL_S, seed=_SEED_APART)
        with prober.meanwhile():
            run_load(plan, self._progress)
        prober.few("after", check=self.context.stop.check)
        found = live_cost(prober.probes)
        if found:
            self.context.say(f"check-load {self.target}", found["says"], Kind.NOTE)
        return prober.probes

    def _first(self, about: dict[str, Any], pairs: int) -> LoadResults:
        """The levels that do not judge, once on each side, and the first pairs of the one that does."""
        load = self.context.spec.load
        levels = [Level(users, max(users * load.requests_per_user, _SHOWING_N)) for users in set(load.users)]
        if about["peak"] and about["peak"] not in load.users:
            levels.append(Level(about["peak"], max(about["peak"], _SHOWING_N)))
        levels = sorted((one for one in levels if one.users != about["users"]), key=lambda one: one.users)
        levels.append(self._level(about, _FEW_N, pairs))
        results = run_load(replace(self._plan(), levels=tuple(levels), budget_s=load.budget), self._progress)
        baseline = kept_baseline(self.context.journal, self.target)
        return replace(results, about=about, baseline=[baseline] if baseline else [])

    def _more(self, about: dict[str, Any], results: LoadResults, until: int, left: float) -> LoadResults:
        """The pairs up to the next look; where the second did not decide, the last ones are long."""
        plan, least = self._plan(), _FEW_N if until < MOST_PAIRS else JUDGING_N
        pairs = len(results.pairs(about["users"]))
        turn = pairs + len(results.plan.levels) - 1
        return run_load(replace(
            plan, levels=(self._level(about, least, until - pairs),),
            # A B B A goes on where the last block ended.
            sides=plan.sides if turn % 2 == 0 else plan.sides[::-1],
            # Prompts that no earlier block has sent: a prefix cache would know those.
            seed=1 + pairs, budget_s=left,
        ), self._progress)  # fmt: skip

    def _level(self, about: dict[str, Any], least: int, pairs: int) -> Level:
        each = about["users"] * self.context.spec.load.requests_per_user
        return Level(about["users"], max(each, least), repeats=pairs)

    def _plan(self) -> LoadPlan:
        spec, facts = self.context.spec, self.context.facts
        replicas = spec.replicas(self._engine() or "")
        return LoadPlan(
            sides=(self._side("ollama"), self._side("vllm")), model=self.target, levels=(),
            max_tokens=spec.load.max_tokens, timeout_s=spec.load.timeout,
            lengths=lengths_of(spec.load, facts.traffic if facts else None), unique=spec.load.unique_prompts,
            slo=spec.load.slo.in_ms() if spec.load.slo else None, replicas=replicas if len(replicas) > 1 else (),
        )  # fmt: skip

    def _progress(self, seen: dict[str, Any]) -> None:
        level = f"{seen['users']} users on {seen['side']}"
        self.context.say(
            f"check-load {self.target}", f"{level}: {seen['done']} of {seen['of']}", Kind.WAIT, reason=level
        )
        self.context.stop.check()


def shares_gpu(spec: Spec, model: str) -> bool:
    """Whether Ollama and the engine of a route may use the same GPU; Ollama without a list uses all."""
    mine, engine = set(spec.ollama.gpus), spec.engines[spec.routes[model].engine or ""]
    return spec.accelerator == "nvidia" and bool(engine.gpus) and (not mine or bool(mine & set(engine.gpus)))


def kept_baseline(journal: Journal, model: str) -> dict[str, Any] | None:
    """Return {at, levels} of the baseline of a model, None where there is none that says anything."""
    last = journal.last("baseline", model)
    told = last is not None and any(one["complete"] for one in last.data["levels"])
    return {"at": last.at, "levels": last.data["levels"]} if last and told else None


def thresholds(spec: Spec, users: int) -> LoadThresholds:
    """Return the terms of the stack file; `users`: the level that judges."""
    load = spec.load
    return LoadThresholds(
        latency_factor=load.latency_factor, throughput_factor=load.throughput_factor, error_rate=load.error_rate,
        slo_share=load.slo_share, users=users, most_pairs=load.pairs,
    )  # fmt: skip


def judging_level(spec: Spec, model: str, facts: Facts | None) -> dict[str, Any]:
    """Return {users, peak, origin, limit}: the level that judges, and why.

    The peak of the evidence, else the highest of load.users; at most what vLLM takes at once, since beyond that it
    queues by design. peak: None where nothing was measured; limit: max_num_seqs of all replicas.
    """
    traffic = facts.traffic if facts else None
    seen = traffic.concurrency.peak if traffic else None
    peak = min(math.ceil(seen), 10_000) if seen is not None and math.isfinite(seen) and seen >= 1 else None
    engine = spec.engines[spec.routes[model].engine or ""]
    limit = engine.max_num_seqs * engine.replicas
    origin = "load.users" if peak is None else "stated" if traffic and traffic.source == "stated" else "measured"
    return {"users": min(peak or max(spec.load.users), limit), "peak": peak, "origin": origin, "limit": limit}
