"""What a difference between two sides proves: exact tests, each against what one side differs from itself.

Nothing here looks at texts. McNemar's test: two sides that are equally good lose and gain prompts alike. The noise
floor: one side asked twice changes its own mind; only what goes beyond that counts.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.stats import wilson

Outcome = Literal["fail", "pass", "unclear"]
_ROUNDS = 1999      # relabelings; the smallest p is 1 / 2000
_ENOUGH = 20        # of them as far apart: no difference, and no need to go on (Besag and Clifford 1991)
_MOST_NEEDED = 500
_SUSPICIOUS = 0.125


@dataclass(frozen=True, slots=True)
class Limits:
    """`alpha`: chance of a false alarm; `loss`: share of prompts that may be lost, net; `groups`: judged at once."""

    alpha: float = 0.05
    loss: float = 0.05
    groups: int = 1


@dataclass(frozen=True, slots=True)
class Flips:
    """A paired comparison: `lost` passed on the old side alone, `gained` on the new one alone, of `total` prompts.

    `noise`: chance that one prompt looks lost through noise. `p`: that sides which are equally good lose so many or
    more; `p_noise`: that noise alone does.
    """

    total: int
    lost: int
    gained: int
    noise: float
    p: float
    p_noise: float
    outcome: Outcome

    @property
    def suspicious(self) -> bool:
        """Whether an unclear comparison should stop somebody: three prompts the same way, or more."""
        return self.outcome == "unclear" and self.p <= _SUSPICIOUS


def binomial_tail(k: int, n: int, p: float) -> float:
    """Chance of at least `k` successes in `n` trials."""
    if k <= 0:
        return 1.0
    if p <= 0:
        return 0.0
    return min(1.0, sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1)))


def mcnemar(lost: int, gained: int) -> float:
    """Exact and one-sided: the chance that two equally good sides differ so much to the worse, or more."""
    return binomial_tail(lost, lost + gained, 0.5)


def noise_floor(unsteady: int, asked: int) -> float:
    """Upper 95 % bound of the share of prompts whose outcome changes when the same side is asked again."""
    return wilson(unsteady, asked).high


def chance_of_loss(floor: float, times: int) -> float:
    """The most that noise can do: share of prompts that one side passes each of `times` and the other never.

    A prompt that is passed with chance p changes its outcome between two answers with 2p(1-p), and looks lost with
    (p(1-p))**times; their ratio is largest at p = 1/2. That holds for any mixture of prompts.
    """
    return floor * 0.25 ** (times - 1) / 2


def flips(lost: int, gained: int, total: int, noise: float, limits: Limits) -> Flips:
    """Judge a paired comparison; `unclear`: more than noise explains, and too few prompts to call it worse."""
    p, p_noise = mcnemar(lost, gained), binomial_tail(lost, total, noise)
    beyond = p_noise <= limits.alpha / max(1, limits.groups)
    net = (lost - gained) / total if total else 0.0
    outcome: Outcome = "pass"
    if net > limits.loss and beyond:
        outcome = "fail" if p <= limits.alpha else "unclear"
    return Flips(total, lost, gained, noise, p, p_noise, outcome)


def prompts_needed(found: Flips, limits: Limits) -> int:
    """How many more prompts, at these shares, would make McNemar's test speak; 0 when it does, or never would."""
    if found.outcome != "unclear":
        return 0
    for factor in range(2, _MOST_NEEDED):
        if mcnemar(found.lost * factor, found.gained * factor) <= limits.alpha:
            return found.total * (factor - 1)
    return 0


@dataclass(frozen=True, slots=True)
class Spread:
    """How alike the answers of one side are to each other, mean over prompts, 0..1; `p`: of such a difference."""

    old: float
    new: float
    p: float


def spread(pairs: Sequence[tuple[Sequence[str], Sequence[str]]]) -> Spread | None:
    """Compare how much each side varies; each pair holds both sides' answers to one prompt, drawn independently.

    A permutation test: under one and the same distribution it does not matter which answer came from which side.
    The seed is fixed, so the same answers give the same p. None where nothing can be compared.
    """
    usable = [(list(old), list(new)) for old, new in pairs if len(old) > 1 and len(new) > 1]
    if not usable:
        return None
    tables = [(_alike([*old, *new]), len(old)) for old, new in usable]
    halves = [_halves(table, list(range(len(table))), split) for table, split in tables]
    old, new = (sum(half[i] for half in halves) / len(halves) for i in (0, 1))
    seen, rng = abs(new - old) - 1e-12, random.Random(7)  # noqa: S311 (a reproducible draw, no secret)
    beyond = 0
    for done in range(1, _ROUNDS + 1):
        shift = 0.0
        for table, split in tables:
            order = rng.sample(range(len(table)), len(table))
            first, second = _halves(table, order, split)
            shift += second - first
        beyond += abs(shift / len(tables)) >= seen
        if beyond >= _ENOUGH:
            return Spread(old, new, beyond / done)
    return Spread(old, new, (beyond + 1) / (_ROUNDS + 1))


def _alike(texts: Sequence[str]) -> list[list[float]]:
    """1 for the same text, else the share of the shorter one that both begin with."""
    return [[_prefix(a, b) for b in texts] for a in texts]


def _prefix(one: str, other: str) -> float:
    if one == other:
        return 1.0
    same = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        same += 1
    return same / max(len(one), len(other))


def _halves(table: Sequence[Sequence[float]], order: Sequence[int], split: int) -> tuple[float, float]:
    """Mean likeness within the first `split` of `order`, and within the rest."""
    return _mean(table, order[:split]), _mean(table, order[split:])


def _mean(table: Sequence[Sequence[float]], chosen: Sequence[int]) -> float:
    pairs = [table[i][j] for at, i in enumerate(chosen) for j in chosen[at + 1 :]]
    return sum(pairs) / len(pairs)
