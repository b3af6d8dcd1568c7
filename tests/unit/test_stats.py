"""The statistics against known values, properties, and simulation."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import stats

numbers = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=60)


def test_percentile_is_the_linear_kind():
    assert stats.percentile([1, 2, 3, 4], 50) == 2.5
    assert stats.percentile([15, 20, 35, 40, 50], 40) == pytest.approx(29.0)
    assert stats.percentile(list(range(101)), 95) == 95


@pytest.mark.parametrize("values, q", [([], 50), ([1.0], 101), ([1.0], -1)])
def test_percentile_refuses_nonsense(values, q):
    with pytest.raises(ValueError):
        stats.percentile(values, q)


@given(numbers, st.floats(0, 100))
def test_percentile_lies_between_the_extremes(values, q):
    assert min(values) <= stats.percentile(values, q) <= max(values)


@given(numbers, st.floats(0, 100), st.floats(0, 100))
def test_percentile_never_falls_as_q_rises(values, a, b):
    low, high = sorted((a, b))
    assert stats.percentile(values, low) <= stats.percentile(values, high)


@given(numbers, st.randoms())
def test_order_of_the_samples_does_not_matter(values, rng):
    shuffled = values[:]
    rng.shuffle(shuffled)
    assert stats.percentile(values, 95) == stats.percentile(shuffled, 95)


def test_minimum_n_is_the_distribution_free_bound():
    assert (stats.minimum_n(50), stats.minimum_n(95), stats.minimum_n(99)) == (5, 59, 299)


def test_small_samples_give_the_maximum_and_say_so():
    small = stats.quantile([3.0, 9.0, 5.0], 95)
    assert (small.value, small.maximum, small.note) == (None, 9.0, "n too small")
    assert stats.quantile([], 95).maximum is None
    assert stats.quantile([1.0] * 60, 95).note == "few samples"
    assert stats.quantile([1.0] * 200, 95).note == ""


def test_order_interval_uses_the_binomial_ranks():
    # The textbook ranks for the median of 20 samples at 95 %: the 6th and the 15th.
    interval = stats.order_interval(list(range(1, 21)), 50)
    assert interval == stats.Interval(6, 15)
    # With 60 samples nothing but the maximum bounds a p95 from above; the other end stays near it.
    interval = stats.order_interval(list(range(1, 61)), 95)
    assert interval is not None
    assert interval.high == 60
    assert interval.low >= 50
    assert stats.order_interval(list(range(1, 61)), 5) == stats.Interval(1, 61 - interval.low)
    assert stats.order_interval([1.0, 2.0], 99) is None
    assert stats.order_interval([], 50) is None


@pytest.mark.parametrize("q, n", [(50, 40), (95, 59), (95, 200), (99, 400)])
def test_order_interval_covers_the_truth(q, n):
    rng = random.Random(7)
    truth = -math.log(1 - q / 100)
    hits = 0
    for _ in range(600):
        interval = stats.order_interval([rng.expovariate(1) for _ in range(n)], q)
        assert interval is not None
        hits += interval.low <= truth <= interval.high
    assert hits / 600 >= 0.92


def test_wilson_known_values():
    zero = stats.wilson(0, 200)
    assert zero.low == 0.0
    assert zero.high == pytest.approx(0.018845, abs=1e-5)
    half = stats.wilson(5, 10)
    assert (half.low, half.high) == (pytest.approx(0.236593, abs=1e-5), pytest.approx(0.763407, abs=1e-5))
    assert stats.wilson(0, 0) == stats.Interval(0.0, 1.0)
    with pytest.raises(ValueError):
        stats.wilson(3, 2)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_point(case):
    k, n = case
    interval = stats.wilson(k, n)
    assert 0 <= interval.low <= k / n <= interval.high <= 1


@pytest.mark.parametrize(
    "p, df, value",
    [(0.975, 1, 12.706205), (0.975, 4, 2.776445), (0.95, 9, 1.833113), (0.975, 30, 2.042272), (0.025, 4, -2.776445)],
)
def test_t_quantile_known_values(p, df, value):
    assert stats.t_quantile(p, df) == pytest.approx(value, abs=1e-5)


@given(st.floats(0.01, 0.99), st.integers(1, 200))
def test_t_quantile_inverts_the_distribution(p, df):
    assert stats.t_cdf(stats.t_quantile(p, df), df) == pytest.approx(p, abs=1e-9)


@pytest.mark.parametrize(
    "factors, verdict",
    [
        ([1.3, 1.28, 1.32, 1.29, 1.31], "worse"),
        ([1.0, 1.01, 0.99, 1.0, 1.0], "not worse"),
        ([0.6, 1.9, 1.1, 0.8, 1.6], "inconclusive"),
    ],
)
def test_paired_ratio_three_ways(factors, verdict):
    old = [100.0, 110.0, 95.0, 105.0, 102.0]
    new = [x * factor for x, factor in zip(old, factors, strict=True)]
    assert stats.paired_ratio(old, new).verdict == verdict


def test_paired_ratio_is_the_geometric_mean():
    result = stats.paired_ratio([1.0, 1.0], [2.0, 0.5])
    assert result.ratio == pytest.approx(1.0)
    assert result.low < 1 < result.high


@pytest.mark.parametrize("old, new", [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, 0.0], [1.0, 1.0])])
def test_paired_ratio_refuses_what_it_cannot_judge(old, new):
    with pytest.raises(ValueError):
        stats.paired_ratio(old, new)


@pytest.mark.parametrize("spread", [0.03, 0.10])
def test_equal_servers_are_rarely_called_worse(spread):
    rng = random.Random(11)
    worse = 0
    for _ in range(1000):
        old, new = ([math.exp(rng.gauss(0, spread)) for _ in range(5)] for _ in range(2))
        worse += stats.paired_ratio(old, new).verdict == "worse"
    assert worse / 1000 <= 0.05


def test_a_slowdown_of_a_fifth_is_found_with_eight_pairs():
    rng = random.Random(13)
    found = 0
    for _ in range(500):
        old = [math.exp(rng.gauss(0, 0.10)) for _ in range(8)]
        new = [1.2 * math.exp(rng.gauss(0, 0.10)) for _ in range(8)]
        found += stats.paired_ratio(old, new).verdict == "worse"
    assert found / 500 >= 0.8
