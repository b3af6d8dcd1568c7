"""Streams: events cut anywhere, stop words across pieces, translation of the engine's bytes to the client's."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.adapter.ask import CHAT, Ask
from orchestrator.adapter.config import Route
from orchestrator.adapter.exchange import Answer, Translator
from orchestrator.adapter.native_answer import NativeAnswer
from orchestrator.adapter.pieces import Tally
from orchestrator.adapter.sse import EventParser
from orchestrator.adapter.stops import StopScanner
from orchestrator.adapter.v1_answer import ChatAnswer, TextAnswer

ROUTE = Route("m:1", "one", "http://e", "m:1")
AT = 1_795_224_065_012_300_000  # 2026-11-21T01:21:05.0123Z


def cuts(data: bytes, at: list[int]) -> list[bytes]:
    marks = [0, *sorted(min(mark, len(data)) for mark in at), len(data)]
    return [data[low:high] for low, high in itertools.pairwise(marks)]


def stream(*events: dict[str, Any], done: bool = True) -> bytes:
    frames = [b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n" for event in events]
    return b"".join(frames) + (b"data: [DONE]\n\n" if done else b"")


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "logprobs": None, "finish_reason": finish}]}


USAGE = {"choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10}}


def translate(data: bytes, answer: Answer, at: list[int] | None = None, **ask: Any) -> tuple[str, Translator]:
    question = Ask(ROUTE, "m:1", CHAT, {}, **{"stream": True, **ask})
    tally = Tally(started=100, sent=150)
    translator = Translator(question, answer, tally)
    parts = [translator.feed(chunk, 200) for chunk in cuts(data, at or [])]
    if translator.done and not question.stream:
        parts.append(answer.whole(tally))
    return "".join(parts), translator


def chat() -> NativeAnswer:
    return NativeAnswer("M:1", chat=True, clock=lambda: AT)


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), min_size=1), max_size=5),
    st.lists(st.integers(0, 200)),
    st.sampled_from([b"\n", b"\r\n"]),
)
def test_events_are_the_same_wherever_the_bytes_are_cut(texts: list[str], at: list[int], end: bytes) -> None:
    data = b"".join(b": note" + end + b"data: " + text.encode() + end + end for text in texts)
    parser = EventParser()
    got = [event for chunk in cuts(data, at) for event in parser.feed(chunk)]
    assert got == [text.encode() for text in texts]


def test_several_data_lines_are_one_event() -> None:
    assert EventParser().feed(b"event: x\ndata: a\ndata:b\n\ndata: open") == [b"a\nb"]


@given(st.text("abc"), st.lists(st.text("abc", min_size=1, max_size=3), min_size=1), st.lists(st.integers(0, 30)))
def test_text_up_to_the_first_stop_passes_whole(text: str, stops: list[str], at: list[int]) -> None:
    scanner = StopScanner(tuple(stops))
    got = ""
    for chunk in cuts(text.encode(), at):
        got += scanner.feed(chunk.decode())
        if scanner.stopped:
            break
    found = [text.find(stop) for stop in stops if stop in text]
    if not found:
        assert got + scanner.flush() == text
        return
    # With several stops, the one that is complete first decides, as it would at the engine.
    assert scanner.stopped
    assert got == text[: len(got)]
    assert any(text.startswith(stop, len(got)) for stop in stops)


def test_a_chat_stream_is_ollamas_bytes() -> None:
    text, _ = translate(
        stream(delta(role="assistant", content=""), delta(content="a<"), delta("length", content="é"), USAGE), chat()
    )
    head = '{"model":"M:1","created_at":"2026-11-21T01:21:05.0123Z",'
    assert text.splitlines() == [
        head + '"message":{"role":"assistant","content":"a\\u003c"},"done":false}',
        head + '"message":{"role":"assistant","content":"é"},"done":false}',
        head + '"message":{"role":"assistant","content":""},"done":true,"done_reason":"length","total_duration":100,'
        '"load_duration":50,"prompt_eval_count":8,"prompt_eval_duration":50,"eval_count":2,"eval_duration":1}',
    ]


def test_a_v1_stream_is_ollamas_bytes() -> None:
    data = stream(delta(role="assistant", content=""), delta(content="a"), delta("stop", content="b"), USAGE)
    text, _ = translate(data, ChatAnswer("M", 7, 1795224225, usage=True))
    head = (
        'data: {"id":"chatcmpl-7","object":"chat.completion.chunk","created":1795224225,"model":"M",'
        '"system_fingerprint":"fp_ollama",'
    )
    assert text == (
        head + '"choices":[{"index":0,"delta":{"role":"assistant","content":"a"},"finish_reason":null}]}\n\n'
        + head + '"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":null}]}\n\n'
        + head + '"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
        + head + '"choices":[],"usage":{"prompt_tokens":8,"completion_tokens":2,"total_tokens":10}}\n\n'
        + "data: [DONE]\n\n"
    )  # fmt: skip


def test_a_text_completion_stream_is_ollamas_bytes() -> None:
    text, _ = translate(stream(delta("stop", content="b"), USAGE), TextAnswer("M", 88, 5, usage=True))
    tail = '"model":"M","system_fingerprint":"fp_ollama","usage":'
    none = '{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}\n\n'
    head = 'data: {"id":"cmpl-88","object":"text_completion","created":5,'
    assert text == (
        head + '"choices":[{"text":"b","index":0,"finish_reason":null}],' + tail + none
        + head + '"choices":[{"text":"","index":0,"finish_reason":"stop"}],' + tail + none
        + head + '"choices":[],' + tail + '{"prompt_tokens":8,"completion_tokens":2,"total_tokens":10}}\n\n'
        + "data: [DONE]\n\n"
    )  # fmt: skip


words = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=4), max_size=6)


@given(words, st.lists(st.integers(0, 900)), st.booleans())
def test_no_token_is_lost_or_doubled(said: list[str], at: list[int], stream_it: bool) -> None:
    events = [delta(role="assistant", content=""), *(delta(content=word) for word in said), delta("stop"), USAGE]
    text, translator = translate(stream(*events), chat(), at, stream=stream_it)
    assert translator.done
    lines = [json.loads(line) for line in text.split("\n") if line]
    assert "".join(line["message"]["content"] for line in lines) == "".join(said)
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert len(lines) == (len(said) + 1 if stream_it else 1)


def test_thinking_and_tools_are_rendered_in_each_dialect() -> None:
    parts = [
        {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a"'}},
        {"index": 0, "function": {"arguments": ":1}"}},
        {"index": 1, "id": "c2", "function": {"name": "g", "arguments": ""}},
    ]
    data = stream(delta(reasoning="hm"), *(delta(tool_calls=[part]) for part in parts), delta("tool_calls"), USAGE)
    lines = [json.loads(line) for line in translate(data, chat())[0].splitlines()]
    assert lines[0]["message"] == {"role": "assistant", "content": "", "thinking": "hm"}
    calls = [call for line in lines for call in line["message"].get("tool_calls", [])]
    assert calls == [
        {"id": "c1", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}},
        {"id": "c2", "function": {"index": 1, "name": "g", "arguments": {}}},
    ]
    assert lines[-1]["done_reason"] == "stop"
    whole = json.loads(translate(data, ChatAnswer("M", 1, 1, usage=False), stream=False)[0])
    assert whole["choices"][0]["message"]["reasoning"] == "hm"
    assert [call["function"]["arguments"] for call in whole["choices"][0]["message"]["tool_calls"]] == ['{"a":1}', "{}"]
    assert whole["choices"][0]["finish_reason"] == "tool_calls"


def test_generate_has_its_own_fields_and_the_context() -> None:
    first = {"prompt_token_ids": [1, 2], **delta(content="")}
    second = {"choices": [{"index": 0, "delta": {"content": "x", "reasoning": "hm"}, "token_ids": [9]}]}
    answer = NativeAnswer("m", chat=False, clock=lambda: AT, context=True)
    got = json.loads(translate(stream(first, second, delta("stop"), USAGE), answer, stream=False)[0])
    assert list(got)[:7] == ["model", "created_at", "response", "thinking", "done", "done_reason", "context"]
    assert (got["response"], got["thinking"], got["context"]) == ("x", "hm", [1, 2, 9])


def test_logprobs_keep_ollamas_fields_and_place() -> None:
    entry = {"token": "a", "logprob": -1.5, "bytes": [97], "top_logprobs": []}
    event = delta("stop", content="a")
    event["choices"][0]["logprobs"] = {"content": [entry]}
    got = json.loads(translate(stream(event, USAGE), chat(), stream=False)[0])
    assert list(got).index("logprobs") == list(got).index("done_reason") + 1
    assert got["logprobs"] == [{"token": "a", "logprob": -1.5, "bytes": [97]}]


def test_a_stop_word_of_ours_ends_the_stream_before_the_engine_does() -> None:
    usage = {"usage": {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10}}
    data = stream(delta(content="one E"), {**delta(content="ND two"), **usage}, delta(content="three"), done=False)
    text, translator = translate(data, chat(), scan=("END",))
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["message"]["content"] for line in lines] == ["one ", ""]
    assert (lines[-1]["done_reason"], lines[-1]["eval_count"]) == ("stop", 2)
    assert translator.done


def test_what_might_have_been_a_stop_word_is_sent_at_the_end() -> None:
    text, _ = translate(stream(delta(content="one E"), delta("stop"), USAGE), chat(), scan=("END",))
    assert [json.loads(line)["message"]["content"] for line in text.splitlines()] == ["one ", "E", ""]


@pytest.mark.parametrize("frame", [b'data: {"error":{"message":"dead","code":500}}\n\n', b"data: {broken\n\n"])
def test_an_error_frame_keeps_what_came_before_it(frame: bytes) -> None:
    data = stream(delta(content="a"), done=False) + frame + b"data: [DONE]\n\n"
    text, translator = translate(data, chat())
    assert len(text.splitlines()) == 1
    assert translator.fault is not None
    assert not translator.done


def test_error_endings() -> None:
    assert chat().error("x") == '{"error":"x"}\n'
    frame = ChatAnswer("M", 1, 1, usage=False).error("x")
    assert json.loads(frame.removeprefix("data: "))["error"]["type"] == "api_error"
