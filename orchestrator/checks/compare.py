"""Old against new over paired runs, looked at three times: worse, not worse, or how many pairs more.

One figure per run (its p95, its tokens per second), never pooled requests: those of one run are correlated, and tests
on them find a difference between equal servers in up to 60 % of cases. The pairs alternate, A B B A, so that a drift
of the machine cancels out of every second pair.

Every look has a part of the 6 % that may miss. Whenever one stops, and for whatever reason, the interval printed then
holds the truth in at least 94 % of all tests (Bonferroni: no assumption about the spread, and none about the rule of
stopping), and equal servers are called worse in at most 3 %. `bench/comparison.py` shows what comes of it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Literal

from orchestrator.stats import t_quantile

Outcome = Literal["worse", "not worse", "inconclusive"]

# Two-sided share of misses of the look after so many pairs. The first is for what is plain, the last for the rest; two
# pairs would decide nothing: Student's t is 40 there, and 10 with three.
LOOKS = {3: 0.016, 5: 0.008, 8: 0.036}
MISS = sum(LOOKS.values())
MOST_PAIRS = max(LOOKS)
_TOO_MANY = 1000
_FAR = 50.0        # ln: an interval that wide says nothing, and must not overflow


@dataclass(frozen=True, slots=True)
class Comparison:
    """`ratio`: geometric mean of new over old, larger is worse, with the interval of this look; None without a look.

    `bound`: the ratio that is still allowed. `needed`: pairs that would decide if all went on like this, None when
    that is more than anybody would run: the ratio is about the bound.
    """

    outcome: Outcome
    pairs: int
    bound: float
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    needed: int | None = None

    @property
    def decided(self) -> bool:
        return self.outcome != "inconclusive"

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def looks(most: int = MOST_PAIRS) -> dict[int, float]:
    """Return the looks of a test of at most `most` pairs (3 to 8): the last one has all that is left of the 6 %."""
    if not min(LOOKS) <= most <= MOST_PAIRS:
        raise ValueError(f"a test has {min(LOOKS)} to {MOST_PAIRS} pairs, not {most}")
    taken = {pairs: miss for pairs, miss in LOOKS.items() if pairs <= most}
    last = max(taken)
    return {**taken, last: MISS - sum(miss for pairs, miss in taken.items() if pairs != last)}


def compare(
    old: Sequence[float], new: Sequence[float], *, bound: float = 1.10, most: int = MOST_PAIRS
) -> Comparison:
    """Judge paired figures of which larger is worse, as the test did: the first look that decides is the verdict.

    worse: the interval excludes 1 (or `bound`, where that is below 1) and the ratio is beyond `bound`; not worse: the
    whole interval is below `bound`. Pairs beyond a look wait for the next. Raises ValueError for figures that have no
    ratio.
    """
    if len(old) != len(new):
        raise ValueError(f"pairs need equally many runs on both sides: got {len(old)} and {len(new)}")
    figures = [*old, *new, bound]
    if not all(math.isfinite(one) and one > 0 for one in figures):
        raise ValueError("ratios need positive, finite figures")
    plan = looks(most)
    logs = [math.log(b) - math.log(a) for a, b in zip(old, new, strict=True)]
    found = Comparison("inconclusive", 0, bound, needed=min(plan) - len(logs))
    for pairs in plan:
        if pairs <= len(logs) and not found.decided:
            found = _look(logs[:pairs], bound, plan)
    return found


def _look(logs: Sequence[float], bound: float, plan: dict[int, float]) -> Comparison:
    mean, spread, pairs = fmean(logs), stdev(logs), len(logs)
    half = _half(spread, pairs, plan[pairs])
    ratio, low, high = _exp(mean), _exp(mean - half), _exp(mean + half)
    outcome = _outcome(ratio, low, high, bound)
    needed = 0 if outcome != "inconclusive" else _needed(mean, spread, bound, pairs, plan)
    return Comparison(outcome, pairs, bound, ratio, low, high, needed)


def _outcome(ratio: float, low: float, high: float, bound: float) -> Outcome:
    if low > min(1.0, bound) and ratio > bound:
        return "worse"
    return "not worse" if high < bound else "inconclusive"


def _exp(value: float) -> float:
    return math.exp(max(-_FAR, min(_FAR, value)))


def _half(spread: float, pairs: int, miss: float) -> float:
    return t_quantile(1 - miss / 2, pairs - 1) * spread / math.sqrt(pairs)


def _needed(mean: float, spread: float, bound: float, pairs: int, plan: dict[int, float]) -> int | None:
    """How many more pairs would decide, with the mean and the spread seen so far."""
    limit = math.log(bound)
    room = mean - min(0.0, limit) if mean > limit else limit - mean
    for total, miss in plan.items():
        if total > pairs and _half(spread, total, miss) < room:
            return total - pairs
    # Beyond the last look the interval only narrows.
    later = range(max(plan) + 2, _TOO_MANY, 2)
    found = bisect_left(later, True, key=lambda total: _half(spread, total, MISS) < room)
    return later[found] - pairs if found < len(later) else None
