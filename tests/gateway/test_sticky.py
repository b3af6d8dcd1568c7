"""A conversation stays on its side, whichever API it uses and however the weight moves."""

from __future__ import annotations

from collections import Counter

import pytest
from gateway_bench import Bench
from gateway_harness import DRAWN, STICKY

pytestmark = pytest.mark.docker

SIDE = {"ollama": "ollama", "engine": "vllm", "adapter": "vllm"}


def turns(n: int) -> list[dict]:
    return [{"role": "user", "content": f"conversation {n}"}, {"role": "assistant", "content": "a"},
            {"role": "user", "content": "b"}]  # fmt: skip


def side(bench: Bench, path: str, body: dict, **headers: str) -> str:
    return SIDE[bench.post(path, {"model": "sticky"} | body, headers=headers).raise_for_status().json()["from"]]


@pytest.mark.parametrize(
    ("path", "body_of"),
    [
        ("/v1/chat/completions", lambda n, turn: {"messages": turns(n)[:turn]}),
        ("/api/chat", lambda n, turn: {"messages": turns(n)[:turn]}),
        ("/v1/messages", lambda n, turn: {"messages": turns(n)[:turn], "max_tokens": 5}),
        ("/v1/responses", lambda n, turn: {"input": turns(n)[:turn]}),
        ("/api/generate", lambda n, turn: {"prompt": f"conversation {n}", "options": {"seed": turn}}),
        ("/v1/completions", lambda n, turn: {"prompt": f"conversation {n}", "seed": turn}),
    ],
)
def test_a_conversation_stays_and_only_moves_towards_vllm(bench: Bench, path: str, body_of) -> None:
    before: set[int] = set()
    for weight in (20, 60, 100):
        bench.nginx.weights({STICKY: weight})
        on_vllm = set()
        for n in range(30):
            sides = {side(bench, path, body_of(n, turn)) for turn in (1, 3)}
            assert len(sides) == 1
            if sides == {"vllm"}:
                on_vllm.add(n)
        assert before <= on_vllm
        before = on_vllm
    assert len(before) == 30


@pytest.mark.parametrize(
    "named",
    [
        lambda who: ({}, {"X-Session-Id": who}),
        lambda who: ({"user": who}, {}),
        lambda who: ({"metadata": {"user_id": who}}, {}),
    ],
    ids=["session", "user", "metadata"],
)
def test_who_is_named_stays_whatever_is_said(bench: Bench, named) -> None:
    bench.nginx.weights({STICKY: 50})
    found = {}
    for who in map(str, range(16)):
        extra, headers = named(who)
        sides = {side(bench, "/v1/chat/completions", {"messages": turns(n)} | extra, **headers) for n in range(4)}
        assert len(sides) == 1
        found[who] = sides.pop()
    assert set(found.values()) == {"ollama", "vllm"}


def test_a_route_may_be_drawn_request_by_request(bench: Bench) -> None:
    bench.nginx.weights({DRAWN: 50, STICKY: 50})
    drawn = Counter(bench.chat(model=DRAWN).json()["from"] for _ in range(60))
    assert set(drawn) == {"ollama", "engine"}
    same = Counter(bench.chat(model=STICKY).json()["from"] for _ in range(10))
    assert len(same) == 1


def test_the_side_is_the_same_after_a_restart(bench: Bench) -> None:
    bench.nginx.weights({STICKY: 50})

    def all_sides() -> list[str]:
        return [bench.chat(model=STICKY, messages=turns(n)).json()["from"] for n in range(20)]

    before = all_sides()
    bench.nginx.remove()
    bench.nginx.start()
    assert all_sides() == before
