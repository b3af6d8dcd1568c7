"""What a difference proves: exact tests against what they are by definition, and error rates by simulation."""

from __future__ import annotations

import random
from itertools import product

import pytest

from orchestrator.checks.answers.case import Case
from orchestrator.checks.answers.checked import judge_checked
from orchestrator.checks.answers.judge import overall
from orchestrator.checks.answers.record import Reply
from orchestrator.checks.answers.shape import judge_shape
from orchestrator.checks.answers.statistics import (
    Limits,
    binomial_tail,
    chance_of_loss,
    flips,
    mcnemar,
    noise_floor,
    prompts_needed,
    spread,
)
from orchestrator.checks.answers.terms import Asked, Terms

YES = ({"type": "contains", "value": "yes"},)
SIZES = {"facts": 8, "arithmetic": 6, "extraction": 6, "code": 5, "json": 5, "tools": 5, "turns": 6, "languages": 8, "long": 5}


def by_hand(lost, gained):
    """Every way in which each changed prompt falls on one side or the other."""
    ways = [sum(way) for way in product((0, 1), repeat=lost + gained)]
    return sum(one >= lost for one in ways) / len(ways)


@pytest.mark.parametrize("lost, gained", [(0, 0), (1, 0), (3, 1), (5, 0), (4, 4), (0, 3), (7, 2)])
def test_mcnemar_is_the_share_of_all_ways(lost, gained):
    assert mcnemar(lost, gained) == pytest.approx(by_hand(lost, gained))


def test_binomial_tail():
    assert binomial_tail(0, 5, 0.3) == 1
    assert binomial_tail(1, 5, 0) == 0
    assert binomial_tail(2, 3, 0.5) == pytest.approx(0.5)
    assert binomial_tail(3, 3, 0.1) == pytest.approx(0.001)


def test_the_noise_floor_falls_with_what_was_asked_again():
    assert noise_floor(0, 0) == 1
    assert noise_floor(0, 100) < 0.05 < noise_floor(0, 20) < noise_floor(2, 20)


@pytest.mark.parametrize(
    "lost, gained, total, noise, outcome",
    [
        (0, 0, 50, 0.05, "pass"),
        (1, 0, 50, 0.05, "pass"),
        (10, 9, 50, 0.05, "pass"),
        (6, 0, 6, 0.05, "fail"),
        (4, 0, 4, 0.05, "unclear"),
        (6, 0, 6, 1.0, "pass"),
        (2, 0, 200, 0.0, "pass"),
    ],
)
def test_what_flips_come_to(lost, gained, total, noise, outcome):
    assert flips(lost, gained, total, noise, Limits(groups=10)).outcome == outcome


def test_prompts_needed_would_make_it_speak():
    limits = Limits()
    found = flips(4, 0, 4, 0.05, limits)
    more = prompts_needed(found, limits)
    assert mcnemar(4 * (found.total + more) // 4, 0) <= limits.alpha < mcnemar(found.lost, 0)
    assert prompts_needed(flips(0, 0, 9, 0.05, limits), limits) == 0


def test_spread_sees_one_side_that_never_varies():
    pairs = [([f"{c}{at}" for c in "abcdef"], ["z"] * 6) for at in range(8)]
    found = spread(pairs)
    assert (found.old, found.new) == (0, 1)
    assert found.p <= 0.001
    assert spread(pairs) == found, "the same answers, the same p"


@pytest.mark.parametrize("pairs", [[], [(["a"], ["a", "b"])]])
def test_spread_needs_two_answers_of_each(pairs):
    assert spread(pairs) is None


def test_spread_of_one_distribution_is_rarely_called_two():
    rng = random.Random(5)
    draws = lambda: ["".join(rng.choices("aaabbc", k=4)) for _ in range(6)]  # noqa: E731
    p = [spread([(draws(), draws()) for _ in range(4)]).p for _ in range(30)]
    assert sum(one <= 0.05 for one in p) <= 5, "under the null, p <= 0.05 in about one of twenty"


@pytest.mark.parametrize("p", [0.01, 0.1, 0.3, 0.5, 0.8, 0.99])
@pytest.mark.parametrize("times", [1, 2, 4])
def test_noise_never_loses_more_prompts_than_its_bound(p, times):
    assert (p * (1 - p)) ** times <= chance_of_loss(2 * p * (1 - p), times) + 1e-12


# A world: how good a side is, how much an answer wavers, and what a new side loses.


def world(rng, *, ability=0.8, wavering=0.03, drift=0.0, loss=0.0, lost_group=None):
    """One run on two sides that share each prompt's difficulty; `wavering`: chance that one answer goes astray.

    `drift`: chance that a side, for good, answers a prompt the other way: what another quantisation does.
    """
    asked = []
    for group, size in SIZES.items():
        for n in range(size):
            knows = rng.random() < ability
            forgets = rng.random() < loss or group == lost_group
            one = Asked(Case(f"{group}/{n}", group, (), asserts=YES))
            for side, able in ((one.old, knows), (one.new, knows and not forgets)):
                right = able != (rng.random() < drift)
                for _ in range(2):
                    astray = rng.random() < wavering
                    side.append(Reply(200, text=f"{'yes' if right != astray else 'no'} {n}", finish_reason="stop"))
            asked.append(one)
    return asked


def verdict(asked):
    terms = Terms()
    return overall(judge_shape(asked, terms) + judge_checked(asked, terms))[0]


@pytest.mark.parametrize("wavering", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("ability, drift", [(0.05, 0.0), (0.5, 0.1), (0.95, 0.03)])
def test_equal_sides_are_rarely_red(wavering, ability, drift):
    rng = random.Random(11)
    found = [verdict(world(rng, ability=ability, wavering=wavering, drift=drift)) for _ in range(80)]
    assert found.count("fail") <= 4, "at most 5 in 100"
    assert found.count("inconclusive") <= 8


def test_a_side_that_lost_a_quarter_is_red():
    rng = random.Random(12)
    found = [verdict(world(rng, ability=0.9, loss=0.25)) for _ in range(40)]
    assert found.count("fail") >= 32
    assert found.count("pass") <= 4


@pytest.mark.parametrize("group", SIZES)
def test_a_side_that_lost_one_kind_of_question_is_red(group):
    rng = random.Random(13)
    found = [verdict(world(rng, ability=1.0, wavering=0.0, lost_group=group)) for _ in range(3)]
    assert found == ["fail"] * 3
