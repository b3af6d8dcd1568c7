"""What Ollama does before anything is changed: average, p95, throughput, errors at one user and at the peak.

Bounded: few requests, two levels, two minutes. Later the load gate falls back on it where Ollama cannot be up beside
vLLM, and the report shows it. Judging is pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from orchestrator.checks import Side, Verdict
from orchestrator.checks.load import LoadResults, read_lines
from orchestrator.checks.loadmetrics import Sample
from orchestrator.checks.loadplan import LoadPlan
from orchestrator.checks.loadpreset import article_figures
from orchestrator.checks.loadshape import Level

BUDGET_S = 120.0
_FIRST_N = 10       # requests of one user: an average
_LEAST_N = 20       # a nearest-rank p95 needs so many


def baseline_plan(side: Side, model: str, users: int, max_tokens: int, timeout_s: float) -> LoadPlan:
    """Return the plan: one user, then `users` at once; at most 10 + max(20, users) requests."""
    levels = [Level(1, _FIRST_N), *([Level(users, max(_LEAST_N, users))] if users > 1 else [])]
    return LoadPlan(
        (side,), model, tuple(levels), max_tokens=max_tokens, timeout_s=timeout_s, budget_s=BUDGET_S, warmup=1,
        give_up=True, level_s=BUDGET_S, poll_s=0.0,
    )  # fmt: skip


def baseline_of(results: LoadResults) -> Verdict:
    """Return what was measured: pass when every request was answered, inconclusive where nothing can be said.

    evidence/levels: [{users, n, average_ms, p95_ms, p95_note, timeouts, errors, tokens_per_s, complete}].
    """
    levels = [_level(results, users) for users in sorted({run["users"] for run in results.runs})]
    stopped = "; ".join(str(one["reason"]) for one in results.stopped)
    failed = [f"{w['side']} failed the warm-up: {w['outcome']}, {w['error']}" for w in results.warmups
              if w["outcome"] != "complete"]  # fmt: skip
    evidence = {"levels": levels, "stopped": stopped, "warmup_failures": failed, "model": results.plan.model}
    told = [*(_words(one) for one in levels if one["n"]), *([f"stopped: {stopped}"] if stopped else []), *failed]
    whole = any(one["complete"] for one in levels) and not stopped and not failed
    return Verdict("baseline", results.plan.model, "pass" if whole else "inconclusive",
                   "; ".join(told) or "nothing was asked", evidence)  # fmt: skip


def recompute(lines: Iterable[dict[str, Any]]) -> Verdict:
    """Return the same from the raw lines alone."""
    return baseline_of(read_lines(lines)[0])


def _level(results: LoadResults, users: int) -> dict[str, Any]:
    own: list[Sample] = [one for one in results.samples if one["users"] == users]
    figures = results.figures("ollama", users)
    return {"users": users, **article_figures(own), "complete": figures["complete"],
            "tokens_per_s": figures["output_tokens_per_s"]}  # fmt: skip


def _words(level: dict[str, Any]) -> str:
    return f"{level['users']} user{'s' if level['users'] != 1 else ''}: {', '.join(_parts(level))}"


def _parts(level: dict[str, Any]) -> Iterator[str]:
    if level["average_ms"] is not None:
        yield f"average {level['average_ms']:.0f} ms"
    if level["p95_ms"] is not None:
        yield f"p95 {level['p95_ms']:.0f} ms"
    if level["tokens_per_s"]:
        yield f"{level['tokens_per_s']:.1f} tokens/s"
    yield f"{level['errors'] + level['timeouts']} of {level['n']} failed"
