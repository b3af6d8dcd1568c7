"""The step before the take-over: what the untouched Ollama does, measured once and kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import httpx

from orchestrator.checks import Side, Verdict
from orchestrator.checks.baseline import baseline_of, baseline_plan
from orchestrator.checks.load import run_load
from orchestrator.checks.loadlive import LiveBound, ProbeWatch
from orchestrator.clients.ollama import Ollama
from orchestrator.errors import MigrateError
from orchestrator.events import Kind
from orchestrator.names import canonical
from orchestrator.state import StackState
from orchestrator.steps import Context
from orchestrator.steps.evidence import keep_raw, keep_verdict, verdict_path
from orchestrator.steps.loadgate import judging_level, kept_baseline

_HUNG_S = 120.0


class TakeBaseline:
    """Asks the original Ollama a few questions per model; what goes wrong with them stops nothing else."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def already_done(self) -> bool:
        return self.context.journal.states().stack is StackState.TAKEN_OVER or not self._missing()

    def do(self) -> dict[str, Any]:
        return {"text": "; ".join(f"{model}: {self._one(model)}" for model in self._missing())}

    def undo(self) -> None:
        """Nothing was changed."""

    def _missing(self) -> list[str]:
        models = [name for name, route in self.context.spec.migrating().items() if route.kind == "generate"]
        return [name for name in models if kept_baseline(self.context.journal, name) is None]

    def _one(self, model: str) -> str:
        spec = self.context.spec
        users = judging_level(spec, model, self.context.facts)["users"]
        plan = baseline_plan(Side("ollama", spec.ollama.url), model, users, spec.load.max_tokens, spec.load.timeout)
        watch = ProbeWatch(_one_token(spec.ollama.url, model), LiveBound(spec.load.live_factor))
        try:
            self._loaded(model)
            watch.begin()
            results = run_load(plan, lambda seen: self._look(seen, watch))
        except (httpx.HTTPError, MigrateError) as error:
            self.context.stop.check()
            why = f"no baseline: {error or type(error).__name__}"
            self.context.say(f"take-baseline {model}", why, Kind.WARN)
            return why
        finally:
            watch.end()
        verdict = baseline_of(results)
        self._keep(verdict, list(results.lines(check="baseline")))
        return verdict.summary

    def _loaded(self, model: str) -> None:
        """Refuse a question that would load another model: it might push out the one that users have loaded."""
        with Ollama(self.context.spec.ollama.url) as client:
            loaded = [one.name for one in client.ps()]
        if loaded and canonical(model) not in map(canonical, loaded):
            raise MigrateError(f"Ollama has {', '.join(loaded)} loaded, and {model} might push it out")

    def _look(self, seen: dict[str, Any], watch: ProbeWatch) -> str:
        place = f"{seen['users']} users on the untouched Ollama"
        self.context.say("take-baseline ollama", f"{place}: {seen['done']} of {seen['of']}", Kind.WAIT, reason=place)
        self.context.stop.check()
        return watch.check()

    def _keep(self, verdict: Verdict, lines: list[str]) -> None:
        path = verdict_path(self.context.dir, verdict)
        raw = keep_raw(path.with_suffix(".jsonl"), lines)
        keep_verdict(path, verdict, raw)
        self.context.journal.append("baseline", verdict.target, verdict.summary, {
            "levels": verdict.evidence["levels"], "result": verdict.result, "raw": asdict(raw) if raw else None,
            "evidence": str(path.relative_to(self.context.dir)),
        })  # fmt: skip


def _one_token(url: str, model: str) -> Callable[[], float]:
    """A probe: how long one token takes, ms; a connection of its own each time, so that nothing stays open."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, "stream": False}

    def ask() -> float:
        began = time.perf_counter()
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=httpx.Timeout(_HUNG_S, connect=5.0),
                            trust_env=False)  # fmt: skip
        answer.raise_for_status()
        return (time.perf_counter() - began) * 1000

    return ask
