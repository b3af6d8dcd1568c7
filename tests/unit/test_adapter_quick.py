"""The short way for events that say one word: the same bytes as the long way, whatever they say and wherever cut."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.adapter.anthropic_answer import MessagesAnswer
from orchestrator.adapter.ask import CHAT, Ask
from orchestrator.adapter.config import Route
from orchestrator.adapter.exchange import Answer, Translator
from orchestrator.adapter.heard import parse
from orchestrator.adapter.native_answer import NativeAnswer
from orchestrator.adapter.pieces import Tally
from orchestrator.adapter.quick import learn
from orchestrator.adapter.responses_answer import ResponsesAnswer
from orchestrator.adapter.v1_answer import ChatAnswer, TextAnswer

ROUTE = Route("m:1", "one", "http://e", "m:1")
HEAD = '{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
TAIL = ',"logprobs":null,"finish_reason":null,"token_ids":%s}]}'
MAKERS: list[Callable[[], Answer]] = [
    lambda: NativeAnswer("m", chat=True, clock=lambda: 5),
    lambda: NativeAnswer("m", chat=False, clock=lambda: 5, context=True),
    lambda: ChatAnswer("m", 1, 1, usage=True),
    lambda: TextAnswer("m", 1, 1, usage=True),
]


def event(text: str, *, ascii_only: bool, number: int | None, chat: bool = True) -> bytes:
    said = json.dumps(text, ensure_ascii=ascii_only)
    delta = f'"delta":{{"content":{said}}}' if chat else f'"text":{said}'
    data = HEAD + delta + TAIL % ("null" if number is None else f"[{number}]")
    return b"data: " + data.encode("utf-8", "replace") + b"\n\n"


def run(data: bytes, answer: Answer, at: list[int], *, quick: bool, stream: bool) -> tuple[str, Tally]:
    tally = Tally(started=0)
    translator = Translator(Ask(ROUTE, "m", CHAT, {}, stream=stream), answer, tally)
    translator._quick = quick
    marks = [0, *sorted(min(mark, len(data)) for mark in at), len(data)]
    text = "".join(translator.feed(data[low:high], 9) for low, high in itertools.pairwise(marks))
    return text + ("" if stream else answer.whole(tally)), tally


words = st.lists(st.text(max_size=5) | st.sampled_from(['"', "\\", '"}', "\n", "<", "\u2028", "🙂", "a\\"]), max_size=8)


@given(
    words,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(MAKERS),
    st.lists(st.integers(0, 2000), max_size=6),
)
def test_the_short_way_says_what_the_long_way_says(
    said: list[str], ascii_only: bool, numbered: bool, stream: bool, make: Callable[[], Answer], at: list[int]
) -> None:
    data = b"".join(
        event(text, ascii_only=ascii_only, number=1000 + k if numbered else None) for k, text in enumerate(said)
    )
    data += b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    data += b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\ndata: [DONE]\n\n'
    short, counted = run(data, make(), at, quick=True, stream=stream)
    long, expected = run(data, make(), [], quick=False, stream=stream)
    assert short == long
    for field in ("content", "thinking", "pieces", "token_ids", "prompt_ids", "finish", "usage", "first", "last"):
        assert getattr(counted, field) == getattr(expected, field), field


@pytest.mark.parametrize("make", MAKERS)
def test_cut_at_any_byte_no_word_is_lost_or_doubled(make: Callable[[], Answer]) -> None:
    said = ["grün", " 🙂", '"\\', "\n\n", "data: ", "\u2028<"]
    data = b": note\r\n\r\n" + b"".join(event(text, ascii_only=False, number=1000) for text in said)
    data += b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    whole, _ = run(data, make(), [], quick=False, stream=True)
    for cut in range(len(data)):
        assert run(data, make(), [cut], quick=True, stream=True)[0] == whole, cut
    assert run(data, make(), list(range(len(data))), quick=True, stream=True)[0] == whole


def test_the_short_way_is_taken() -> None:
    one = event("hello", ascii_only=False, number=7).removeprefix(b"data: ").strip()
    shape = learn(one, parse(one))
    assert shape is not None
    for text, number in (("", 0), (' "quoted" ', 12), ("grün\n", 3456)):
        raw = event(text, ascii_only=False, number=number).removeprefix(b"data: ").strip()
        found = shape.word(raw)
        assert found is not None
        assert (json.loads(f'"{found[0]}"'), found[1]) == (text, number)


@pytest.mark.parametrize(
    "other",
    [
        b'{"choices":[{"index":0,"delta":{"content":"x","reasoning":"y"},"logprobs":null,"finish_reason":null,"token_ids":[1]}]}',
        HEAD.encode() + b'"delta":{"content":"x","tool_calls":[]}' + (TAIL % "[1]").encode(),
        HEAD.encode() + b'"delta":{"content":"x"},"logprobs":null,"finish_reason":"stop","token_ids":[1]}]}',
        HEAD.encode() + b'"delta":{"content":"x"}' + (TAIL % "[1,2]").encode(),
        HEAD.encode() + b'"delta":{"content":"x"}' + (TAIL % "null").encode(),
        HEAD.encode() + b'"delta":{"content":"\xff"}' + (TAIL % "[1]").encode(),
        b'{"error":{"message":"dead","code":500}}',
        b"[DONE]",
        b"",
    ],
)
def test_what_looks_different_is_parsed(other: bytes) -> None:
    one = event("hello", ascii_only=False, number=7).removeprefix(b"data: ").strip()
    shape = learn(one, parse(one))
    assert shape is not None
    assert shape.word(other) is None


@pytest.mark.parametrize(
    "raw",
    [
        {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]},
        {"choices": [{"index": 0, "delta": {"content": "x"}}], "usage": {"completion_tokens": 1}},
        {"choices": [{"index": 0, "delta": {"content": "x"}, "logprobs": {"content": [{"token": "x"}]}}]},
        {"choices": [{"index": 0, "delta": {"content": "", "reasoning": "x"}}]},
        {"choices": [{"index": 0, "delta": {"content": "x", "note": {"content": "y"}}}]},
    ],
)
def test_nothing_is_learnt_from_what_says_more(raw: dict[str, Any]) -> None:
    data = json.dumps(raw, separators=(",", ":")).encode()
    assert learn(data, parse(data)) is None


def test_a_message_of_responses_goes_the_short_way() -> None:
    short, long = ResponsesAnswer("m", {}, 5), ResponsesAnswer("m", {}, 5)
    long._item = short._item
    assert short.word("x") is None
    assert [short.piece("a", "", [], []).count("delta"), long.piece("a", "", [], []).count("delta")] == [2 + 1] * 2
    assert short.word('b\\"\\u003c') == long.piece('b"<', "", [], [])
    assert short._said == long._said


def test_a_block_of_text_goes_the_short_way_only_while_it_is_open() -> None:
    answer = MessagesAnswer("m", 1)
    assert answer.word("x") is None
    answer.piece("a", "", [], [])
    line = answer.word("b\\n")
    assert line is not None
    assert json.loads(line.split("data: ")[1])["delta"] == {"type": "text_delta", "text": "b\n"}
