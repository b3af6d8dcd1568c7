"""The load gate: levels of users on both sides, judged, and every sample kept beside the verdict."""

from __future__ import annotations

from typing import Any

from orchestrator.checks import Verdict
from orchestrator.checks.load import LoadThresholds, judge_load, run_load
from orchestrator.checks.loadplan import LoadPlan, closed_levels
from orchestrator.events import Kind
from orchestrator.state import Event, RouteState
from orchestrator.steps.verify import Gate


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
        results = run_load(plan, self._progress)
        self.raw = results.lines()
        return judge_load(results, thresholds)

    def _progress(self, seen: dict[str, Any]) -> None:
        level = f"{seen['users']} users on {seen['side']}"
        self.context.say(
            f"check-load {self.target}", f"{level}: {seen['done']} of {seen['of']}", Kind.WAIT, reason=level
        )
        self.context.stop.check()
