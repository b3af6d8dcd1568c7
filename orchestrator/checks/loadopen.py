"""What only an open loop can show, and what a closed one cannot see. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from statistics import median
from typing import Any

Sample = dict[str, Any]
# Instants at which requests in flight are counted, per quarter of a level.
_LOOKS = 25
# A backlog is called one when it grew by so much between the second and the last quarter of the level.
_GROWTH = 1.25
_PAUSE_FACTOR = 2.0
_PAUSE_MS = 500.0


def open_figures(samples: Sequence[Sample], runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The backlog of an open level: {offered_per_s, not_sent, in_flight: {middle, end, most, per_s}, overloaded}.

    `overloaded` is empty or says why: requests came faster than they were answered, so a latency would only say how
    long the level lasted. A ramp and a replay have no steady rate, so their backlog alone condemns nothing.
    """
    not_sent = sum(run.get("not_sent", 0) for run in runs)
    shape = runs[0].get("shape", "constant") if runs else "constant"
    found = [backlog([s for s in samples if s["repeat"] == run["repeat"]]) for run in runs]
    worst = max(found or [backlog([])], key=lambda one: one["per_s"])
    worst["most"] = max((one["most"] for one in found), default=0)
    why = f"{not_sent} requests could not be sent: too many were in flight" if not_sent else ""
    if not why and shape in ("constant", "poisson") and grows(worst):
        why = f"requests in flight grew from {worst['middle']:.0f} to {worst['end']:.0f}: {worst['per_s']:+.2f}/s"
    return {"offered_per_s": _offered(samples, runs), "not_sent": not_sent, "in_flight": worst, "overloaded": why}


def backlog(samples: Sequence[Sample]) -> dict[str, Any]:
    """Requests in flight while requests came: medians of the second and the last quarter, the peak, and the slope.

    Medians, so that one stall that was caught up with is no growing backlog.
    """
    due = sorted(s["at_us"] - s["send_lag_us"] for s in samples)
    ends = sorted(s["end_us"] for s in samples)
    if len(due) < 2 or due[-1] <= due[0]:
        return {"middle": 0.0, "end": 0.0, "most": len(due), "per_s": 0.0}
    first, span = due[0], due[-1] - due[0]

    def level(quarter: int) -> float:
        instants = (first + span * (quarter + (look + 0.5) / _LOOKS) / 4 for look in range(_LOOKS))
        return float(median(bisect_right(due, at) - bisect_right(ends, at) for at in instants))

    middle, end = level(1), level(3)
    most = max(number + 1 - bisect_right(ends, at) for number, at in enumerate(due))
    return {"middle": middle, "end": end, "most": most, "per_s": (end - middle) / (span / 2 / 1e6)}


def grows(found: dict[str, Any]) -> bool:
    """Whether the backlog grew beyond chance: in a steady state its standard deviation is about its root."""
    middle, end = found["middle"], found["end"]
    return bool(end >= _GROWTH * middle and end - middle > max(3.0, 2 * middle**0.5))


def _offered(samples: Sequence[Sample], runs: Sequence[dict[str, Any]]) -> float | None:
    count = len(samples) + sum(run.get("not_sent", 0) for run in runs)
    span = 0.0
    for run in runs:
        due = [s["at_us"] - s["send_lag_us"] for s in samples if s["repeat"] == run["repeat"]]
        span += (max(due) - min(due)) / 1e6 if len(due) > 1 else 0.0
    return (count - len(runs)) / span if span > 0 else None


def unseen(complete: Sequence[Sample]) -> dict[str, Any]:
    """What a closed loop cannot see: while an answer is late its user asks nothing.

    {pause_ms, requests, text}: the longest answer beyond twice the median, and how many requests its user would
    have sent meanwhile, which no percentile holds. 0 where nothing paused.
    """
    blind = "a closed loop asks less while answers are late: its percentiles hold few of the requests that a stall hits"
    times = [float(s["last_us"]) / 1000 for s in complete]
    typical, longest = (median(times), max(times)) if times else (0.0, 0.0)
    if not typical or longest <= max(_PAUSE_FACTOR * typical, typical + _PAUSE_MS):
        return {"pause_ms": 0.0, "requests": 0, "text": blind}
    late = [time for time in times if time > max(_PAUSE_FACTOR * typical, typical + _PAUSE_MS)]
    missing = round(sum(time / typical - 1 for time in late))
    text = (f"{blind}: here answers were up to {longest / 1000:.1f} s late, in which about {missing} requests more "
            f"would have been sent; an open loop shows them (--rate)")  # fmt: skip
    return {"pause_ms": longest - typical, "requests": missing, "text": text}
