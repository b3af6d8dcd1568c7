"""The comparison of old and new: its rule on known pairs, and its error rates by simulation.

The simulations are seeded and small; `bench/comparison.py` has the large ones.
"""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.checks.compare import LOOKS, MISS, MOST_PAIRS, compare, looks

OLD = [100.0, 110.0, 95.0, 105.0, 102.0, 99.0, 101.0, 108.0]


def times(*factors):
    return [a * b for a, b in zip(OLD, factors, strict=False)]


def judged(*factors, **terms):
    return compare(OLD[: len(factors)], times(*factors), **terms)


@pytest.mark.parametrize(
    ("factors", "outcome"),
    [
        ([1.3, 1.28, 1.32, 1.29], "worse"),
        ([1.0, 1.01, 0.99, 1.0], "not worse"),
        ([0.6, 1.9, 1.1, 0.8], "inconclusive"),
        ([1.05, 1.051, 1.049, 1.05], "not worse"),     # slower, and within the margin
        ([1.12, 1.105, 1.13], "worse"),                # the point is beyond it, the interval need not be
        ([0.2, 0.22, 0.21], "not worse"),              # plain after three
        ([5.0, 5.6, 5.1], "worse"),
        ([1.3, 1.1, 1.2], "inconclusive"),
        ([5.0, 5.0], "inconclusive"),                  # two show too little of the spread
        ([1.3, 1.28, 1.32, 0.1, 0.1], "worse"),        # it was decided after three
    ],
)  # fmt: skip
def test_three_ways(factors, outcome):
    assert judged(*factors).outcome == outcome


def test_the_interval_is_that_of_the_look():
    # Half-widths by hand; scipy.stats: t(2) at 0.992 is 7.81051, t(7) at 0.982 is 2.58895.
    found = judged(*[math.exp(x) for x in (0.1, 0.2, 0.3)])
    half = 7.81051 * 0.1 / math.sqrt(3)
    assert (found.pairs, found.ratio) == (3, pytest.approx(math.exp(0.2)))
    assert (math.log(found.low), math.log(found.high)) == pytest.approx((0.2 - half, 0.2 + half), abs=1e-5)
    eight = judged(*[math.exp(x) for x in (0.1, 0.3) * 4], bound=1.25)
    assert math.log(eight.high) == pytest.approx(0.2 + 2.58895 * 0.1069045 / math.sqrt(8), abs=1e-5)


def test_a_bound_below_one_is_the_demand_itself():
    assert judged(0.9, 0.91, 0.9, 0.9, bound=0.8).outcome == "worse"
    assert judged(0.7, 0.71, 0.7, 0.7, bound=0.8).outcome == "not worse"
    assert judged(1.0, 1.001, 0.999, 1.0, bound=1.0).outcome == "inconclusive"


def test_the_misses_add_up_whatever_the_number_of_pairs():
    assert pytest.approx(0.06) == MISS
    for most in (3, 4, 5, 7, 8):
        assert sum(looks(most).values()) == pytest.approx(MISS)
        assert max(looks(most)) <= most
    assert looks(MOST_PAIRS) == pytest.approx(LOOKS)
    for most in (0, 2, 9, -3):
        with pytest.raises(ValueError, match="pairs"):
            looks(most)


def test_pairs_beyond_a_look_wait_for_the_next():
    assert judged(1.0, 1.1, 1.2, 50.0) == judged(1.0, 1.1, 1.2)
    alone = judged(1.0)
    assert (alone.outcome, alone.pairs, alone.ratio, alone.needed) == ("inconclusive", 0, None, 2)
    assert compare([], []).needed == 3


def test_what_is_still_needed_is_told():
    assert judged(1.3, 1.1, 1.2).needed == 5
    assert judged(1.2, 1.05, 1.15, bound=1.15).needed > 5
    assert judged(1.3, 1.3, 1.3).needed == 0
    assert judged(1.0, 1.1, 1.21, bound=1.1).needed is None     # the ratio is the bound


def test_runs_on_like_before_decide_after_what_was_needed():
    for factors in ([1.0, 1.16, 1.4], [1.45, 1.4, 1.3], [1.2, 1.5, 1.3], [0.9, 1.6, 1.2]):
        needed = judged(*factors, bound=1.5).needed
        if needed and needed <= 5:
            assert judged(*(factors * 3)[: 3 + needed], bound=1.5).decided


@pytest.mark.parametrize(
    ("old", "new", "terms"),
    [
        ([1.0], [1.0, 2.0], {}), ([1.0, 0.0], [1.0, 1.0], {}), ([1.0, 1.0], [1.0, -1.0], {}),
        ([1.0, 1.0], [1.0, math.nan], {}), ([1.0, 1.0], [1.0, math.inf], {}), ([1.0, 1.0], [1.0, 1.0], {"bound": 0.0}),
    ],
)  # fmt: skip
def test_what_has_no_ratio_is_refused(old, new, terms):
    with pytest.raises(ValueError):
        compare(old, new, **terms)


pairs_of = st.lists(st.tuples(st.floats(0.01, 1e6), st.floats(0.01, 1e6)), min_size=3, max_size=8)


@given(pairs_of, st.floats(0.3, 3.0))
def test_the_point_lies_in_its_interval_and_the_outcome_follows_from_it(pairs, bound):
    found = compare([a for a, _ in pairs], [b for _, b in pairs], bound=bound)
    assert found.low <= found.ratio * (1 + 1e-9)
    assert found.ratio <= found.high * (1 + 1e-9)
    assert (found.outcome == "not worse") == (found.high < bound)
    assert found.outcome != "worse" or (found.low > min(1.0, bound) and found.ratio > bound)


# by simulation: pairs are added until decided, at most eight


def sequential(rng, slower, spread, bound=1.10):
    """One whole test, as the gate runs it."""
    old, new = [], []
    for pairs in LOOKS:
        while len(old) < pairs:
            old.append(math.exp(rng.gauss(0, spread)))
            new.append(slower * math.exp(rng.gauss(0, spread)))
        found = compare(old, new, bound=bound)
        if found.decided:
            break
    return found


def share(count, one, seed=11):
    rng = random.Random(seed)
    return sum(one(rng) for _ in range(count)) / count


@pytest.mark.parametrize("spread", [0.03, 0.10, 0.30])
@pytest.mark.parametrize("bound", [1.0, 1.10, 1.5])
def test_equal_servers_are_rarely_called_worse(spread, bound):
    assert share(800, lambda rng: sequential(rng, 1.0, spread, bound).outcome == "worse") <= 0.05


@pytest.mark.parametrize("spread", [0.03, 0.10])
def test_a_slowdown_of_a_fifth_is_found(spread):
    assert share(800, lambda rng: sequential(rng, 1.2, spread).outcome == "worse") >= 0.8


@pytest.mark.parametrize("spread", [0.03, 0.10])
@pytest.mark.parametrize("slower", [0.5, 1.0, 1.1, 1.2])
def test_the_interval_that_is_printed_holds_the_truth(spread, slower):
    def holds(rng):
        found = sequential(rng, slower, spread)
        return found.low <= slower <= found.high

    assert share(800, holds) >= 0.93


def test_a_drift_that_grows_all_the_while_is_no_difference():
    """A B B A: a machine that slows down by 1 % with every run."""

    def worse(rng):
        old, new = [], []
        for pair in range(8):
            first, second = (math.exp(0.01 * (2 * pair + n) + rng.gauss(0, 0.03)) for n in (0, 1))
            old.append(second if pair % 2 else first)
            new.append(first if pair % 2 else second)
        return compare(old, new, bound=1.0).outcome == "worse"

    assert share(400, worse) <= 0.05


def test_what_is_plain_takes_few_pairs():
    rng = random.Random(5)
    pairs = [sequential(rng, 0.2, 0.03, 1.5).pairs for _ in range(200)]
    assert sum(pairs) / len(pairs) < 3.1
