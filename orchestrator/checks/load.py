"""Load gate: runs the load process, and judges what both sides did at each level.

One level judges: the measured peak, as far as vLLM takes so many at once. There both sides run in pairs, A B B A, until
the comparison stands; at the other levels each runs once, for the curves and for failures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from orchestrator.checks import SideName, Verdict
from orchestrator.checks.compare import MOST_PAIRS
from orchestrator.checks.livecost import live_cost
from orchestrator.checks.loadjudge import judged
from orchestrator.checks.loadmetrics import Sample, level_figures
from orchestrator.checks.loadplan import JUDGING_N, LoadPlan
from orchestrator.checks.loadrun import stream_load
from orchestrator.checks.loadruns import pairs_of
from orchestrator.checks.loadspread import over_runs

Progress = Callable[[dict[str, Any]], str | None]
_KINDS = ("warmup", "level", "request", "stopped", "baseline", "probe")


@dataclass(frozen=True)
class LoadThresholds:
    """`latency_factor`: vLLM's p95 over Ollama's; `throughput_factor`: its output tokens/s over Ollama's.

    `length_factor`: how far mean answer lengths may differ before a latency comparison is unequal work. `slo_share`:
    least share of requests that meet all objectives. `users`: the level that judges, None: the highest.
    `most_pairs`: how many pairs of runs there are at most.
    """

    latency_factor: float = 1.5
    throughput_factor: float = 1.0
    error_rate: float = 0.0
    length_factor: float = 1.5
    min_n: int = JUDGING_N
    slo_share: float = 0.95
    users: int | None = None
    most_pairs: int = MOST_PAIRS


@dataclass(frozen=True)
class LoadResults:
    """Everything that was measured, as it came: `samples` are raw, `runs` one line per level, side and repeat.

    `about`: what is known of the level that judges, as {users, peak, origin, limit}. `stopped`: why it ended early.
    `baseline`: what Ollama did before the take-over, where that is known, {at, levels}. `probes`: see livecost.
    """

    plan: LoadPlan
    samples: Sequence[Sample] = ()
    runs: Sequence[dict[str, Any]] = ()
    warmups: Sequence[dict[str, Any]] = ()
    about: dict[str, Any] | None = None
    stopped: Sequence[dict[str, Any]] = ()
    baseline: Sequence[dict[str, Any]] = ()
    probes: Sequence[dict[str, Any]] = ()

    def figures(self, side: SideName, users: int) -> dict[str, Any]:
        """Return the figures of one side at one level; intervals over several runs know how much those differ."""
        samples, runs = self._at(users, side)
        return over_runs(level_figures(samples, runs), samples, runs)

    def pairs(self, users: int) -> list[dict[str, Any]]:
        """Return the runs of both sides at one level, paired."""
        return pairs_of(*self._at(users))

    def and_then(self, later: LoadResults) -> LoadResults:
        """Return both as one test: repeats of a level that both have run count on."""
        first = {run["users"]: run["repeat"] + 1 for run in sorted(self.runs, key=lambda run: run["repeat"])}

        def moved(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
            return [{**one, "repeat": one["repeat"] + first.get(one["users"], 0)} for one in lines]

        levels = {level.users: level for level in (*self.plan.levels, *later.plan.levels)}
        return replace(
            self, plan=replace(self.plan, levels=tuple(levels[users] for users in sorted(levels))),
            samples=[*self.samples, *moved(later.samples)], runs=[*self.runs, *moved(later.runs)],
            warmups=[*self.warmups, *later.warmups], stopped=[*self.stopped, *later.stopped],
        )  # fmt: skip

    def lines(self, terms: LoadThresholds | None = None, check: str = "load") -> Iterator[str]:
        """JSON lines from which every figure and the verdict can be computed again; without any secret."""
        head = {"kind": "plan", "check": check, "target": self.plan.model, "about": self.about}
        yield json.dumps({**head, "thresholds": asdict(terms or LoadThresholds()), **self.plan.shown()})
        parts = (self.warmups, self.runs, self.samples, self.stopped, self.baseline, self.probes)
        for kind, entries in zip(_KINDS, parts, strict=True):
            yield from (json.dumps({"kind": kind, **entry}) for entry in entries)

    def _at(self, users: int, side: SideName | None = None) -> tuple[list[Sample], list[dict[str, Any]]]:
        samples = [s for s in self.samples if s["users"] == users and side in (None, s["side"])]
        return samples, [r for r in self.runs if r["users"] == users and side in (None, r["side"])]


def run_load(plan: LoadPlan, progress: Progress | None = None) -> LoadResults:
    """Run the plan in a process of its own.

    `progress` gets {phase, side, users, repeat, done, of} about twice a second; what it returns is why to stop with
    what there is, and it may end the run by raising.
    The process ends with ours, however ours ends. MigrateError if it fails.
    """
    places: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _KINDS}

    def keep(line: dict[str, Any]) -> None:
        kind = line.pop("kind")
        if kind in places:
            places[kind].append(line)

    def look(seen: dict[str, Any]) -> str:
        seen.pop("kind", None)
        return (progress(seen) or "") if progress else ""

    stream_load(plan, keep, look)
    return LoadResults(plan, places["request"], places["level"], places["warmup"], stopped=places["stopped"])


def judge_load(results: LoadResults, thresholds: LoadThresholds | None = None) -> Verdict:
    """Judge by the terms; the evidence names each reason, and holds the figures that the verdict follows from."""
    terms = thresholds or LoadThresholds()
    users = sorted({level.users for level in results.plan.levels if not level.open})
    levels = [{"users": n, "ollama": results.figures("ollama", n), "vllm": results.figures("vllm", n)} for n in users]
    top = terms.users if terms.users in users else max(users, default=0)
    evidence: dict[str, Any] = {
        "thresholds": asdict(terms), "model": results.plan.model, "judged_at": top, "about": results.about,
        "levels": levels, "pairs": results.pairs(top),
        "warmup_failures": [w for w in results.warmups if w["outcome"] != "complete"],
        "stopped": "; ".join(str(one["reason"]) for one in results.stopped),
        "baseline": results.baseline[0] if results.baseline else None, "live_cost": live_cost(results.probes),
    }  # fmt: skip
    result, summary = judged(evidence)
    return Verdict("load", results.plan.model, result, summary, evidence)


def recompute(lines: Iterable[dict[str, Any]]) -> Verdict:
    """Return the verdict that follows from the raw lines alone; ValueError where they are not a load test's."""
    return judge_load(*read_lines(lines))


def read_lines(lines: Iterable[dict[str, Any]]) -> tuple[LoadResults, LoadThresholds]:
    """Return what the raw lines hold: the results and the terms."""
    plan: dict[str, Any] | None = None
    places: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _KINDS}
    for line in lines:
        if line.get("kind") == "plan":
            plan = line
        elif line.get("kind") in places:
            places[line["kind"]].append({name: value for name, value in line.items() if name != "kind"})
    if plan is None or "levels" not in plan:
        raise ValueError("these lines have no plan of a load test")
    results = LoadResults(
        LoadPlan.from_json(plan), places["request"], places["level"], places["warmup"], plan.get("about"),
        places["stopped"], places["baseline"], places["probe"],
    )  # fmt: skip
    return results, LoadThresholds(**plan.get("thresholds", {}))
