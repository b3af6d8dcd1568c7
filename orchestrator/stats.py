"""Percentiles and intervals: pure, and without assumptions about the distribution.

Percentiles are the linear kind: Hyndman and Fan's type 7, numpy's default, as `vllm bench serve` prints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Literal

# A distribution-free 95 % bound exists from n = 59 (p95) and n = 299 (p99): 1 - q**n >= 0.95.
_CONFIDENCE = 0.95
# Below these counts a percentile is printed but flagged: its bias and spread are still large.
_STEADY_N = {95.0: 200, 99.0: 1000}


@dataclass(frozen=True)
class Quantile:
    """A percentile with its order-statistic interval; `value` is None where n is too small to print one."""

    q: float
    n: int
    value: float | None
    low: float | None
    high: float | None
    maximum: float | None
    note: Literal["", "few samples", "n too small"]


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


def percentile(values: Sequence[float], q: float) -> float:
    """Linear percentile, `q` in 0..100; ValueError on no values."""
    if not values:
        raise ValueError("percentile of no values")
    if not 0 <= q <= 100:
        raise ValueError(f"q must be in 0..100, got {q}")
    ordered = sorted(values)
    rank = (len(ordered) - 1) * q / 100
    below = math.floor(rank)
    share = rank - below
    if share == 0:
        return ordered[below]
    low, high = ordered[below], ordered[below + 1]
    # Clamped because low + share * (high - low) may leave the interval by one rounding error.
    return min(high, max(low, low + share * (high - low)))


def minimum_n(q: float) -> int:
    """Smallest sample with a distribution-free 95 % bound for the q-th percentile (p95: 59, p99: 299)."""
    tail = max(q, 100 - q) / 100
    if tail >= 1:
        raise ValueError("the extremes of a distribution have no bound")
    return max(2, math.ceil(math.log(1 - _CONFIDENCE) / math.log(tail)))


def quantile(values: Sequence[float], q: float) -> Quantile:
    """The q-th percentile with its 95 % interval, or the maximum alone where n is too small."""
    n = len(values)
    maximum = max(values) if values else None
    if n < minimum_n(q):
        return Quantile(q, n, None, None, None, maximum, "n too small")
    interval = order_interval(values, q)
    note: Literal["", "few samples"] = "few samples" if n < _STEADY_N.get(q, 0) else ""
    low, high = (interval.low, interval.high) if interval else (None, None)
    return Quantile(q, n, percentile(values, q), low, high, maximum, note)


def order_interval(values: Sequence[float], q: float, confidence: float = _CONFIDENCE) -> Interval | None:
    """Binomial-rank interval for the q-th percentile, None when no two samples bracket it at `confidence`.

    Unlike the bootstrap it keeps its coverage in the tails.
    """
    ordered, n = sorted(values), len(values)
    if n == 0:
        return None
    lower, upper = _ranks(n, q / 100, 1 - confidence)
    return Interval(ordered[lower - 1], ordered[upper - 1]) if lower >= 1 and upper <= n else None


def _ranks(n: int, p: float, miss: float) -> tuple[int, int]:
    """1-based ranks that miss the truth with probability <= `miss`, half of it on each side where n allows.

    With few samples the far end is the extreme itself, and the other side gets what is left of `miss`.
    """
    lower, upper = _binomial_ranks(n, p, miss / 2, miss / 2)
    if upper > n and p**n <= miss:
        return _binomial_ranks(n, p, miss - p**n, 1.0)[0], n
    if lower < 1 and (1 - p) ** n <= miss:
        return 1, _binomial_ranks(n, p, 1.0, miss - (1 - p) ** n)[1]
    return lower, upper


def _binomial_ranks(n: int, p: float, low_tail: float, high_tail: float) -> tuple[int, int]:
    """(l, u) with P(X < l) <= low_tail, P(X >= u) <= high_tail, X ~ Bin(n, p); 0 or n + 1 where none exists."""
    if p <= 0 or p >= 1:
        return 0, n + 1
    spread = 12 * math.sqrt(n * p * (1 - p)) + 12
    first, last = max(0, int(n * p - spread)), min(n, int(n * p + spread))
    lower, upper, below = 0, n + 1, 0.0
    for k in range(first, last + 1):
        if below <= low_tail:
            lower = k
        if upper == n + 1 and 1 - below <= high_tail:
            upper = k
        below += _binomial_pmf(k, n, p)
    return lower, upper


def _binomial_pmf(k: int, n: int, p: float) -> float:
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(ways + k * math.log(p) + (n - k) * math.log1p(-p))


def share_interval(successes: int, n: int, confidence: float = _CONFIDENCE) -> Interval:
    """Clopper and Pearson's interval of a share; (0, 1) for n = 0.

    It holds its coverage for every share. Wilson's, which is narrower, falls to 84 % for shares near 0: those of
    failures.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is not a share")
    miss = (1 - confidence) / 2
    low = _beta_quantile(miss, successes, n - successes + 1) if successes else 0.0
    high = _beta_quantile(1 - miss, successes + 1, n - successes) if successes < n else 1.0
    return Interval(low, high)


def _beta_quantile(p: float, a: float, b: float) -> float:
    low, high = 0.0, 1.0
    while low < (middle := (low + high) / 2) < high:
        if _incomplete_beta(middle, a, b) < p:
            low = middle
        else:
            high = middle
    return middle


def wilson(successes: int, n: int, confidence: float = _CONFIDENCE) -> Interval:
    """Wilson score interval of a share; (0, 1) for n = 0."""
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is not a share")
    if n == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, z2 = successes / n, z * z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(low, high)


@cache
def t_quantile(p: float, df: int) -> float:
    """Quantile of Student's t, by bisection on its distribution function; 0 < p < 1, df >= 1."""
    if df < 1 or not 0 < p < 1:
        raise ValueError(f"no t quantile for p={p}, df={df}")
    if p < 0.5:
        return -t_quantile(1 - p, df)
    low, high = 0.0, 1.0
    while t_cdf(high, df) < p:
        high *= 2
    while low < (middle := (low + high) / 2) < high:
        if t_cdf(middle, df) < p:
            low = middle
        else:
            high = middle
    return middle


def t_cdf(t: float, df: int) -> float:
    tail = _incomplete_beta(df / (df + t * t), df / 2, 0.5) / 2
    return 1 - tail if t >= 0 else tail


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta function; the continued fraction converges fast left of the mean."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) * _beta_fraction(x, a, b) / a


def _beta_fraction(x: float, a: float, b: float) -> float:
    """Lentz's method for the continued fraction of the incomplete beta function."""
    tiny = 1e-300
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > tiny else tiny)
    result = d
    for m in range(1, 300):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d, c = 1 + term * d, 1 + term / c
            d = 1 / (d if abs(d) > tiny else tiny)
            c = c if abs(c) > tiny else tiny
            result *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return result
