"""Load gate: runs the load process, and judges what both sides did at each level."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import IO, Any

from orchestrator.checks import Judgement, SideName, Verdict
from orchestrator.checks.loadmetrics import Sample, level_figures
from orchestrator.checks.loadplan import JUDGING_N, LoadPlan
from orchestrator.errors import MigrateError

Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class LoadResults:
    """Everything that was measured, as it came: `samples` are raw, `runs` one line per level, side and repeat."""

    plan: LoadPlan
    samples: Sequence[Sample] = ()
    runs: Sequence[dict[str, Any]] = ()
    warmups: Sequence[dict[str, Any]] = ()

    def figures(self, side: SideName, users: int) -> dict[str, Any]:
        return level_figures(
            [s for s in self.samples if s["side"] == side and s["users"] == users],
            [r for r in self.runs if r["side"] == side and r["users"] == users],
        )

    def lines(self) -> Iterator[str]:
        """JSON lines from which every figure and the verdict can be computed again; without any secret."""
        plan = self.plan.to_json()
        plan["sides"] = [{**side, "headers": {}} for side in plan["sides"]]
        yield json.dumps({"kind": "plan", **plan})
        for kind, entries in (("warmup", self.warmups), ("level", self.runs), ("request", self.samples)):
            yield from (json.dumps({"kind": kind, **entry}) for entry in entries)


@dataclass(frozen=True)
class LoadThresholds:
    """`latency_factor`: vLLM's p95 over Ollama's; `throughput_factor`: its output tokens/s over Ollama's.

    `length_factor`: how far mean answer lengths may differ before a latency comparison is unequal work.
    """

    latency_factor: float = 1.5
    throughput_factor: float = 1.0
    error_rate: float = 0.0
    length_factor: float = 1.5
    min_n: int = JUDGING_N


@dataclass
class _Collected:
    samples: list[Sample] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    warmups: list[dict[str, Any]] = field(default_factory=list)
    ended: bool = False


def run_load(plan: LoadPlan, progress: Progress | None = None) -> LoadResults:
    """Run the plan in a process of its own.

    `progress` gets {phase, side, users, repeat, done, of} about twice a second and may end the run by raising.
    The process ends with ours, however ours ends. MigrateError if it fails.
    """
    command = [sys.executable, "-m", "orchestrator.checks.loadclient"]
    with tempfile.TemporaryFile("w+") as errors:
        # A session of its own: Ctrl-C is for us, and our leaving ends it.
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
        try:
            collected = _collect(child, plan, progress)
        finally:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        if not collected.ended:
            raise MigrateError("The load process ended early", evidence=_tail(errors))
    return LoadResults(plan, collected.samples, collected.runs, collected.warmups)


def _collect(child: subprocess.Popen[str], plan: LoadPlan, progress: Progress | None) -> _Collected:
    collected = _Collected()
    assert child.stdin is not None
    assert child.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(json.dumps(plan.to_json()) + "\n")
        child.stdin.flush()
    places = {"request": collected.samples, "level": collected.runs, "warmup": collected.warmups}
    for line in child.stdout:
        entry = json.loads(line)
        kind = entry.pop("kind")
        if kind in places:
            places[kind].append(entry)
        elif kind == "progress" and progress:
            progress(entry)
        elif kind == "end":
            collected.ended = True
            break
    return collected


def _tail(errors: IO[str]) -> str:
    errors.seek(0)
    return "".join(errors.readlines()[-5:])


def judge_load(results: LoadResults, thresholds: LoadThresholds | None = None) -> Verdict:
    """Pass when vLLM failed nothing, and at the highest level its p95 is within the factor and it gives more tokens/s.

    One run per side: the intervals in the evidence say how far the figures can be trusted.
    """
    terms = thresholds or LoadThresholds()
    users = sorted(level.users for level in results.plan.levels)
    levels = [{"users": n, "ollama": results.figures("ollama", n), "vllm": results.figures("vllm", n)} for n in users]
    evidence: dict[str, Any] = {"thresholds": asdict(terms), "model": results.plan.model, "levels": levels}
    evidence["warmup_failures"] = [w for w in results.warmups if w["outcome"] != "complete"]
    result, summary = _judge(evidence, terms)
    return Verdict("load", results.plan.model, result, summary, evidence)


def rejudge(evidence: dict[str, Any]) -> tuple[Judgement, str]:
    """Result and summary from a load verdict's evidence alone."""
    return _judge(dict(evidence), LoadThresholds(**evidence["thresholds"]))


def _judge(evidence: dict[str, Any], terms: LoadThresholds) -> tuple[Judgement, str]:
    for failure in evidence["warmup_failures"]:
        result: Judgement = "fail" if failure["side"] == "vllm" else "inconclusive"
        return result, f"{failure['side']} failed the warm-up: {failure['outcome']}, {failure['error']}"
    if not evidence["levels"]:
        return "inconclusive", "no level was run"
    for level in evidence["levels"]:
        new = level["vllm"]
        if new["n"] and new["failed_share"] > terms.error_rate:
            return "fail", f"vLLM failed {_failures(new)} of {new['n']} requests at {level['users']} users"
    top = evidence["levels"][-1]
    doubt = _doubt(top, terms)
    if doubt:
        return "inconclusive", f"at {top['users']} users: {doubt}"
    return _compare(top, terms, evidence)


def _doubt(top: dict[str, Any], terms: LoadThresholds) -> str:
    """Why the highest level cannot judge; empty if it can."""
    for side in ("ollama", "vllm"):
        figures = top[side]
        answered = figures["complete"] if side == "vllm" else figures["n"]
        too_few = side == "vllm" and figures["e2e_ms"]["p95"]["value"] is None
        if answered < terms.min_n or too_few or not figures["complete"]:
            return f"{side} completed {figures['complete']} requests, a p95 needs {max(terms.min_n, JUDGING_N)}"
    return ""


def _compare(top: dict[str, Any], terms: LoadThresholds, evidence: dict[str, Any]) -> tuple[Judgement, str]:
    old, new = top["ollama"], top["vllm"]
    # More than one in twenty without an answer: Ollama's p95 is beyond every figure.
    unbounded = old["failed_share"] > 0.05 or old["e2e_ms"]["p95"]["value"] is None
    latency = None if unbounded else new["e2e_ms"]["p95"]["value"] / old["e2e_ms"]["p95"]["value"]
    rate = new["output_tokens_per_s"] / old["output_tokens_per_s"]
    length = new["output_tokens_mean"] / old["output_tokens_mean"]
    evidence["comparison"] = {
        "users": top["users"],
        "latency_p95_ratio": latency,
        "output_rate_ratio": rate,
        "output_length_ratio": length,
    }
    said = f"p95 {_ratio(latency)} of Ollama's, output {rate:.2f} times Ollama's, at {top['users']} users"
    slow = latency is not None and latency > terms.latency_factor
    # Longer answers excuse slowness, shorter ones explain speed: neither says anything about the engine.
    if (slow and length > terms.length_factor) or (not slow and length < 1 / terms.length_factor):
        why = f"unequal work: vLLM's answers are {length:.2f} times as long as Ollama's"
        return "inconclusive", f"at {top['users']} users: {why}"
    if slow or rate < terms.throughput_factor:
        why = new["client_limited"].get("e2e_ms")
        if why:
            return "inconclusive", f"{said}; but the load client was the bottleneck on vllm: {why}"
        if slow:
            return "fail", f"too slow: {said} (allowed {terms.latency_factor:g})"
        return "fail", f"too little throughput: {said} (demanded {terms.throughput_factor:g})"
    if not _stands(old, latency, rate, terms):
        why = old["client_limited"]["e2e_ms"]
        return "inconclusive", f"{said}; but the load client was the bottleneck on ollama: {why}"
    return "pass", said


def _stands(old: dict[str, Any], latency: float | None, rate: float, terms: LoadThresholds) -> bool:
    """Whether a pass holds even if Ollama was faster by all that the client lagged.

    A lagging client only makes a server look slower: it can spoil a fail of vLLM, or a pass through Ollama's figures.
    """
    if "e2e_ms" not in old["client_limited"] or latency is None:
        return True
    late = max(old["client"]["loop_lag_p99_ms"], old["client"]["send_lag_p99_ms"])
    p95, p50 = old["e2e_ms"]["p95"]["value"], old["e2e_ms"]["p50"]["value"]
    if p50 is None or late >= min(p50, p95):
        return False
    slower = latency * p95 / (p95 - late)
    return bool(slower <= terms.latency_factor and rate * (p50 - late) / p50 >= terms.throughput_factor)


def _ratio(latency: float | None) -> str:
    return f"{latency:.2f} times" if latency is not None else "below that"


def _failures(figures: dict[str, Any]) -> str:
    kinds = {name: count for name, count in figures["outcomes"].items() if name != "complete"}
    listed = ", ".join(f"{count} {name}" for name, count in sorted(kinds.items()))
    first = figures["errors"][0]["error"] if figures["errors"] else ""
    return f"{sum(kinds.values())} ({listed}{': ' + first if first else ''})"
