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


@pytest.mark.parametrize("q", [50, 95, 99])
def test_order_interval_covers_the_truth_for_every_n(q):
    """Exactly: it holds when at least `low` and fewer than `high` samples lie below the true percentile."""
    p = q / 100
    for n in [*range(stats.minimum_n(q), 420, 7), 1000]:
        interval = stats.order_interval(range(1, n + 1), q)
        if interval is None:
            assert n < 6    # five samples bracket no median at 95 %, and no interval is printed
            continue
        inside = range(int(interval.low), int(interval.high))
        assert math.fsum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in inside) >= 0.95


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


def test_share_interval_known_values():
    # scipy.stats.beta.ppf, and by hand for one success or none
    one = stats.share_interval(1, 60)
    assert (one.low, one.high) == (pytest.approx(1 - 0.975 ** (1 / 60)), pytest.approx(0.0893991, abs=1e-7))
    half = stats.share_interval(5, 10)
    assert (half.low, half.high) == (pytest.approx(0.187086, abs=1e-6), pytest.approx(0.812914, abs=1e-6))
    none, every = stats.share_interval(0, 200), stats.share_interval(200, 200)
    assert (none.low, none.high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 200)))
    assert (every.low, every.high) == (pytest.approx(0.025 ** (1 / 200)), 1.0)
    assert stats.share_interval(0, 0) == stats.Interval(0.0, 1.0)
    with pytest.raises(ValueError, match="3 of 2"):
        stats.share_interval(3, 2)


@pytest.mark.parametrize("n", [7, 60, 200])
def test_share_interval_covers_every_share(n):
    """Exactly, not by simulation: the chance of every count times whether its interval holds the share."""
    found = [stats.share_interval(k, n) for k in range(n + 1)]
    for share in [*(x / 2000 for x in range(1, 100)), *(x / 40 for x in range(2, 40))]:
        covered = sum(
            math.comb(n, k) * share**k * (1 - share) ** (n - k) for k, one in enumerate(found)
            if one.low <= share <= one.high
        )  # fmt: skip
        assert covered >= 0.95


# Published tables of Student's t, two-sided 95 %, 99 % and 99.9 %.
T_TABLE = {
    1: (12.7062, 63.6567, 636.6192), 2: (4.3027, 9.9248, 31.5991), 3: (3.1824, 5.8409, 12.9240),
    5: (2.5706, 4.0321, 6.8688), 7: (2.3646, 3.4995, 5.4079), 15: (2.1314, 2.9467, 4.0728),
    60: (2.0003, 2.6603, 3.4602), 120: (1.9799, 2.6174, 3.3735),
}  # fmt: skip


@pytest.mark.parametrize("df", T_TABLE)
def test_t_quantile_is_that_of_the_tables(df):
    found = [stats.t_quantile(p, df) for p in (0.975, 0.995, 0.9995)]
    assert found == pytest.approx(T_TABLE[df], abs=6e-5)


@pytest.mark.parametrize(
    "p, df, value",
    [(0.975, 1, 12.706205), (0.975, 4, 2.776445), (0.95, 9, 1.833113), (0.975, 30, 2.042272), (0.025, 4, -2.776445)],
)
def test_t_quantile_known_values(p, df, value):
    assert stats.t_quantile(p, df) == pytest.approx(value, abs=1e-5)


@given(st.floats(0.01, 0.99), st.integers(1, 200))
def test_t_quantile_inverts_the_distribution(p, df):
    assert stats.t_cdf(stats.t_quantile(p, df), df) == pytest.approx(p, abs=1e-9)
