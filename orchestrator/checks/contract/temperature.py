"""The temperature at which a server samples when nobody says one, estimated from its own log-probabilities. Pure.

Log-probabilities are those before sampling, on both engines. A token that was drawn at temperature T out of the k that
are listed with it has probability exp(l_i / T) / sum(exp(l_j / T)); the T that makes all that was drawn likeliest is
the estimate. It compares a side with its own distribution only, so other weights or another quantisation do not
disturb it. What cuts the tail off (top_k, top_p, min_p) makes it look colder, on both sides alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# (log-probability of what was drawn, of all that were listed); what was drawn is among the listed.
Draw = tuple[float, Sequence[float]]
_LOW, _HIGH = 0.0, 20.0     # of 1 / T; 20 is as good as greedy
_STEPS = 40
_LEAST = 24         # draws with a choice
_Z = 3.5            # two equal servers differ by more once in 2,000
_RATIO = 1.15       # and a smaller difference would not be noticed


@dataclass(frozen=True, slots=True)
class Estimate:
    """`cold`: 1 / T, its standard error `error`; `draws`: how many had a choice."""

    cold: float
    error: float
    draws: int

    @property
    def enough(self) -> bool:
        return self.draws >= _LEAST

    @property
    def greedy(self) -> bool:
        return self.cold >= _HIGH * 0.9

    def __str__(self) -> str:
        if self.greedy:
            return "the likeliest token always (temperature 0)"
        return f"about {1 / self.cold:.2f}" if self.cold > 0.05 else "above 20"


def estimate(draws: Iterable[Draw]) -> Estimate:
    """Return the likeliest 1 / T: the score falls all the way, so Newton's steps between two bounds find its zero."""
    kept = [(drawn, listed) for drawn, listed in draws if len(listed) > 1 and max(listed) - min(listed) > 1e-6]
    if not kept:
        return Estimate(0.0, math.inf, 0)
    low, high, cold = _LOW, _HIGH, 1.0
    for _ in range(_STEPS):
        scores = [_score(one, cold) for one in kept]
        slope, information = sum(one for one, _ in scores), sum(one for _, one in scores)
        low, high = (cold, high) if slope > 0 else (low, cold)
        step = cold + slope / information if information > 1e-9 else math.inf
        following = step if low < step < high else (low + high) / 2
        done = abs(following - cold) < 1e-5
        cold = following
        if done:
            break
    information = sum(_score(one, cold)[1] for one in kept)
    return Estimate(cold, 1 / math.sqrt(information) if information > 1e-9 else math.inf, len(kept))


def differ(old: Estimate, new: Estimate) -> bool | None:
    """Return whether two servers sample at other temperatures; None where too little was drawn."""
    if not (old.enough and new.enough):
        return None
    if old.greedy or new.greedy:
        return old.greedy != new.greedy
    ratio = max(old.cold, new.cold) / max(min(old.cold, new.cold), 1e-9)
    return ratio > _RATIO and abs(old.cold - new.cold) > _Z * math.hypot(old.error, new.error)


def _score(draw: Draw, cold: float) -> tuple[float, float]:
    """Return the derivative of the log-likelihood, and the variance of the listed log-probabilities."""
    drawn, listed = draw
    top = max(listed)
    weights = [math.exp((one - top) * cold) for one in listed]
    total = sum(weights)
    mean = sum(w * one for w, one in zip(weights, listed, strict=True)) / total
    square = sum(w * one * one for w, one in zip(weights, listed, strict=True)) / total
    return drawn - mean, max(square - mean * mean, 0.0)
