"""Who may change which weight."""

from __future__ import annotations

import pytest
from gateway_lua import module, plain, table

weights = module("weights")
ROUTES = {"a": {"kind": "generate"}, "e": {"kind": "embedding"}}


def change(current: dict[str, float], wanted: dict[str, float], version: int | None) -> dict | None:
    state = table({"version": 7, "weights": current})
    answer = weights[b"change"](state, table(wanted), version)
    return None if isinstance(answer, tuple) and answer[0] is None else plain(answer)


@pytest.mark.parametrize(
    ("current", "wanted", "version", "after"),
    [
        ({}, {"a": 10}, 7, {"a": 10}),
        ({"a": 10}, {"a": 0}, None, {"a": 0}),
        ({"a": 10, "e": 100}, {"a": 10}, None, {"a": 10, "e": 100}),
        ({"a": 10}, {"a": 99.9}, 7, {"a": 99.9}),
    ],
)
def test_allowed(current: dict, wanted: dict, version: int | None, after: dict) -> None:
    state = change(current, wanted, version)
    assert state is not None
    assert state["version"] == 8
    assert plain(state["weights"]) == after


@pytest.mark.parametrize(
    ("current", "wanted", "version"),
    [({}, {"a": 10}, 6), ({}, {"a": 10}, 8), ({"a": 10}, {"a": 10.1}, None), ({"e": 5}, {"a": 1, "e": 0}, None)],
)
def test_refused(current: dict, wanted: dict, version: int | None) -> None:
    assert change(current, wanted, version) is None


@pytest.mark.parametrize("weight", [0, 0.1, 10, 33.3, 99.9, 100])
def test_steps_of_a_tenth(weight: float) -> None:
    assert weights[b"invalid"](table({"a": weight}), table(ROUTES)) is None


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({}, b"an object"),
        ({"a": -0.1}, b"weights.a"),
        ({"a": 100.1}, b"weights.a"),
        ({"a": 0.05}, b"0.1"),
        ({"a": "x"}, b"weights.a"),
        ({"a": float("nan")}, b"weights.a"),
        ({"a": float("inf")}, b"weights.a"),
        ({"e": 50}, b"never split"),
        ({"nope": 1}, b"no route named nope"),
    ],
)
def test_what_is_wrong_is_said(wanted: dict, said: bytes) -> None:
    assert said in weights[b"invalid"](table(wanted), table(ROUTES))
