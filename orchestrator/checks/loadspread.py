"""Intervals of a level that was run several times: they must know how much its runs differ. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean, stdev
from typing import Any

from orchestrator.checks.loadmetrics import Sample, e2e_ms, felt_ms, tpot_ms, ttft_ms
from orchestrator.stats import percentile, t_quantile

# With fewer runs Student's t is so wide that it says nothing.
_LEAST_RUNS = 4
_LEAST_OF_RUN = 20
_FIGURES: dict[str, Callable[[Sample], float | None]] = {
    "ttft_ms": lambda s: felt_ms(s, ttft_ms(s)), "ttft_sent_ms": ttft_ms, "e2e_ms": lambda s: felt_ms(s, e2e_ms(s)),
    "tpot_ms": tpot_ms,
}  # fmt: skip


def over_runs(
    figures: dict[str, Any], samples: Sequence[Sample], runs: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Return the figures with intervals that hold over runs.

    Order statistics of pooled requests take them for independent, which those of one run are not: at 10 % between runs
    their interval would miss most of the time. Of four runs and more the interval is Student's on the logarithms of
    each run's percentile, of two or three there is none; of one it stays that run's own.
    """
    repeats = sorted({run["repeat"] for run in runs})
    if len(repeats) < 2:
        return figures
    complete = [s for s in samples if s["outcome"] == "complete" and s["token_us"]]
    by_run = [[s for s in complete if s["repeat"] == repeat] for repeat in repeats]
    return {**figures, **{name: _summary(figures[name], by_run, value) for name, value in _FIGURES.items()}}


def _summary(
    summary: dict[str, Any], by_run: Sequence[Sequence[Sample]], value: Callable[[Sample], float | None]
) -> dict[str, Any]:
    runs = [[found for s in one if (found := value(s)) is not None] for one in by_run]
    return {
        name: {**entry, **_interval(entry, runs)} if isinstance(entry, dict) else entry
        for name, entry in summary.items()
    }


def _interval(entry: dict[str, Any], runs: Sequence[Sequence[float]]) -> dict[str, float | None]:
    """Of one percentile; the point lies in it, so it is stretched where pooling has moved the point."""
    told = [percentile(one, entry["q"]) for one in runs if len(one) >= _LEAST_OF_RUN]
    if entry["value"] is None or len(told) < _LEAST_RUNS or min(told) <= 0:
        return {"low": None, "high": None}
    logs = [math.log(one) for one in told]
    half = t_quantile(0.975, len(logs) - 1) * stdev(logs) / math.sqrt(len(logs))
    low, high = math.exp(fmean(logs) - half), math.exp(fmean(logs) + half)
    return {"low": min(low, entry["value"]), "high": max(high, entry["value"])}
