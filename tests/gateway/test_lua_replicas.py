"""Which replica takes a key: evenly, always the same, and as few moves as can be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from gateway_lua import LUA, module, table
from hypothesis import given
from hypothesis import strategies as st

replicas = module("replicas")
hashing = module("hash")
FINE, CROWDED, FAILING, AWAY = (replicas[name] for name in (b"FINE", b"CROWDED", b"FAILING", b"AWAY"))
KEYS = [f'[{{"role":"user","content":"question {n}"}}]'.encode() for n in range(10_000)]
HASHES = [int(hashing[b"hash"](key)) for key in KEYS]


def names(count: int, engine: str = "llama") -> list[str]:
    return [engine, *(f"{engine}-{at}" for at in range(2, count + 1))]


def peers(several: list[str]) -> object:
    return replicas[b"peers"](LUA.table(*(name.encode() for name in several)))


def picker(several: list[str], ranks: dict[str, int] | None = None, but: str | None = None) -> Callable[[int], str]:
    # In Lua: LuaJIT's traces do not bear calls back into Python for long.
    standing = LUA.eval(b"function(r) return function(name) return r[name] or 0 end end")(table(ranks or {}))
    known = peers(several)

    def pick(key: int) -> str:
        return replicas[b"pick"](known, key, standing, but.encode() if but else None)[0].decode()

    return pick


def placed(*arguments, **named) -> list[str]:
    pick = picker(*arguments, **named)
    return [pick(key) for key in HASHES]


@pytest.mark.parametrize("count", [2, 3, 5, 16])
def test_keys_are_spread_evenly(count: int) -> None:
    found = Counter(placed(names(count)))
    mean = len(KEYS) / count
    assert set(found) == set(names(count))
    assert all(abs(n - mean) < 5 * mean**0.5 for n in found.values()), found  # five standard deviations


@pytest.mark.parametrize("engine", ["a", "b", "m-1", "qwen2-5-0-5b"])
def test_keys_that_a_low_weight_sends_here_are_spread_too(engine: str) -> None:
    """The side is chosen by a hash as well: of a tenth of the keys each replica still has its share."""
    pick = picker(names(2, engine))
    low = [key for key in HASHES if key < 2**32 // 10]
    found = Counter(pick(key) for key in low)
    assert abs(found[engine] - len(low) / 2) < 5 * (len(low) / 2) ** 0.5


def test_a_key_stays_where_it_is_whatever_the_order_of_the_replicas() -> None:
    once = placed(names(5))
    assert once == placed(names(5))
    assert once == placed(list(reversed(names(5))))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 15])
def test_a_new_replica_takes_its_share_and_moves_nothing_else(count: int) -> None:
    before, after = placed(names(count)), placed(names(count + 1))
    moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert {new for _, new in moved} == {names(count + 1)[-1]}
    share = len(KEYS) / (count + 1)
    assert abs(len(moved) - share) < 5 * share**0.5


def test_only_the_keys_of_a_dead_replica_move_and_they_scatter() -> None:
    before, after = placed(names(4)), placed(names(4), {"llama-3": AWAY})
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert len(moved) == before.count("llama-3")
    assert set(moved) == {"llama", "llama-2", "llama-4"}
    assert all(old == new for old, new in zip(before, after, strict=True) if old != "llama-3")


def test_a_second_choice_is_what_the_key_would_have_without_the_first() -> None:
    first = placed(names(3))
    for but in names(3):
        rest = [name for name in names(3) if name != but]
        pick, second = picker(rest), picker(names(3), but=but)
        assert all(second(key) == pick(key) for key, at in zip(HASHES, first, strict=True) if at == but)


@given(st.lists(st.sampled_from([FINE, CROWDED, FAILING, AWAY]), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_none_is_taken_while_there_is_a_better_one(ranks: list[int], key: int) -> None:
    several = names(len(ranks))
    stands = dict(zip(several, ranks, strict=True))
    assert stands[picker(several, stands)(key)] == min(ranks)


def test_how_the_best_stands_is_told_and_no_replica_is_none() -> None:
    assert replicas[b"pick"](peers(names(2)), 7, lambda _: AWAY, None)[1] == AWAY
    assert replicas[b"pick"](peers(["a"]), 7, lambda _: FINE, b"a")[0] is None


@pytest.mark.parametrize(
    ("mine", "all_", "count", "crowded"),
    [
        (3, 3, 2, False),  # few requests go where their key says, be it one replica for all
        (4, 4, 2, True),
        (5, 8, 2, False),
        (12, 16, 2, False),
        (13, 16, 2, True),
        (100, 200, 2, False),
        (30, 60, 3, False),
        (31, 60, 3, True),
    ],
)
def test_one_key_does_not_fill_one_replica(mine: int, all_: int, count: int, crowded: bool) -> None:
    assert bool(replicas[b"crowded"](mine, all_, count)) is crowded


@given(st.integers(0, 2**32 - 1), st.integers(0, 31))
def test_stirring_is_a_bijection_that_stays_in_its_range(number: int, which: int) -> None:
    stir = hashing[b"stir"]
    assert 0 <= stir(number) < 2**32
    assert stir(number) != stir(number ^ (1 << which))
