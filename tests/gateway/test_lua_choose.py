"""Which side a conversation takes: always the same, and in the right proportion."""

from __future__ import annotations

import json
from typing import Any

import pytest
from gateway_lua import module
from hypothesis import given
from hypothesis import strategies as st

body, choose, hash_ = (module(n) for n in ("body", "choose", "hash"))
SYSTEM = {"role": "system", "content": "You are helpful. " * 600}  # longer than what is read of it


def say(text: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": text}


def found_in(request: dict[str, Any], **how: Any) -> tuple[bytes, Any]:
    raw = json.dumps({"stream": True, "model": "m"} | request, **how).encode()
    return raw, body[b"model"](raw)[1]


def conversation(request: dict[str, Any], **how: Any) -> int | None:
    return choose[b"conversation"](*found_in(request, **how))


def user(request: dict[str, Any]) -> int | None:
    return choose[b"user"](*found_in(request))


def points(requests: list[dict[str, Any]], route: str = "llama3.1:8b") -> list[float]:
    seed = hash_[b"hash"](route.encode())
    return [choose[b"point"](conversation(request), seed) for request in requests]


@pytest.mark.parametrize("weight", [0.1, 1, 10, 50, 90, 99.9])
@pytest.mark.parametrize(
    "request_of",
    [
        lambda n: {"messages": [say(f"conversation {n}")]},
        lambda n: {"messages": [SYSTEM, say(f"{n}")]},
        lambda n: {"messages": [SYSTEM, say("x" * 9000 + str(n))]},
        lambda n: {"messages": [say([{"type": "text", "text": f"{n}"}])]},
        lambda n: {"prompt": f"{n}: tell me more"},
        lambda n: {"input": f"question {n}"},
    ],
    ids=["plain", "long-system", "long-user", "parts", "prompt", "input"],
)
def test_many_conversations_divide_as_the_weight_says(weight: float, request_of: Any) -> None:
    many = 4000
    on_vllm = sum(choose[b"side"](weight, p, b"generate") == b"vllm" for p in points([request_of(n) for n in range(many)]))
    share = weight / 100
    assert abs(on_vllm - many * share) < 4.5 * (many * share * (1 - share)) ** 0.5 + 1


def test_points_are_spread_evenly_and_differ_between_routes() -> None:
    many = [{"messages": [say(f"conversation {n}")]} for n in range(4000)]
    here, there = points(many), points(many, "other:latest")
    assert all(0 <= p < 100 for p in here)
    for decade in range(10):
        assert 320 < sum(decade * 10 <= p < decade * 10 + 10 for p in here) < 480
    both = sum(a < 50 and b < 50 for a, b in zip(here, there, strict=True))
    assert 880 < both < 1120


def test_sides_are_nested_and_an_embedding_is_never_split() -> None:
    for point in (0.0, 0.05, 9.9, 50.0, 99.99):
        sides = [choose[b"side"](w / 10, point, b"generate") for w in range(1001)]
        assert sides == sorted(sides)
        assert (sides[0], sides[-1]) == (b"ollama", b"vllm")
        assert choose[b"side"](99.9, point, b"embedding") == b"ollama"
        assert choose[b"side"](100, point, b"embedding") == b"vllm"


@pytest.mark.parametrize("key", ["messages", "input"])
@pytest.mark.parametrize("how", [{}, {"separators": (",", ":")}, {"indent": 2}])
def test_a_conversation_is_known_by_its_beginning(key: str, how: dict[str, Any]) -> None:
    opening = [say("s", "system"), say("a", "developer"), say("hello")]
    grown = [*opening, say("hi", "assistant"), say("again")]
    assert conversation({key: opening}, **how) == conversation({key: grown}, **how) is not None
    assert conversation({key: opening}, **how) != conversation({key: [*opening[:2], say("other")]}, **how)
    assert conversation({key: opening}, **how) != conversation({key: [say("t", "system"), *opening[1:]]}, **how)


def test_a_word_in_a_message_is_no_role() -> None:
    decoy = say('the "role": "user" is mine', "system")
    tools = {"role": "system", "tools": [{"role": "user"}], "content": "t"}
    for first in (decoy, tools):
        assert conversation({"messages": [first]}) is None
        assert conversation({"messages": [first, say("a")]}) != conversation({"messages": [first, say("b")]})


@pytest.mark.parametrize(
    "request_", [{}, {"messages": []}, {"messages": None}, {"messages": {}}, {"messages": [1, 2]}, {"messages": ["x"]},
                 {"messages": [say("s", "system")]}, {"messages": [{}]}, {"input": ""}, {"input": 3}]
)  # fmt: skip
def test_what_shows_no_conversation_has_no_key(request_: dict[str, Any]) -> None:
    assert conversation(request_) is None
    assert user(request_) is None


def test_a_named_user_is_known_by_the_name() -> None:
    assert user({"user": "ann"}) == user({"metadata": {"x": {"user_id": "z"}, "user_id": "ann"}}) is not None
    assert user({"user": "ann"}) != user({"user": "bob"})
    assert user({"user": "", "metadata": {"user_id": "bob"}}) == user({"user": "bob"})
    for nobody in ({"user": ""}, {"user": 7}, {"user": None}, {"metadata": "user_id"}, {"metadata": {"user_id": 1}},
                   {"metadata": [{"user_id": "a"}]}, {"messages": [{"role": "user", "user": "a"}]}):  # fmt: skip
        assert user(nobody) is None


@given(st.recursive(st.none() | st.text(max_size=8) | st.integers(), lambda inner: st.lists(inner, max_size=4)
                    | st.dictionaries(st.sampled_from(["role", "user", "content", "user_id", "x"]), inner, max_size=4)))  # fmt: skip
def test_no_body_is_too_odd(value: Any) -> None:
    for key in ("messages", "input", "prompt", "user", "metadata"):
        for of in (conversation, user):
            found = of({key: value})
            assert found is None or 0 <= found < 2**32
