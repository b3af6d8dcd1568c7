"""Streams of any make, cut anywhere: the classifier says what a reader that takes its time would say."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise

from gateway_cuts import answers, told
from gateway_lua import module
from hypothesis import given
from hypothesis import strategies as st

outcome = module("outcome")
SSE, NDJSON = "text/event-stream", "application/x-ndjson"
LAST_EVENTS = ("message_stop", "response.completed", "response.incomplete")
ERROR_EVENTS = ("error", "response.failed")


def judge(chunks: Iterable[bytes], kind: str, *, ended: bool = True, generates: bool = True) -> tuple[str, str | None]:
    """The outcome, and what a reader still lacks."""
    state = outcome[b"new"](kind.encode(), 200, generates)
    for chunk in chunks:
        state[b"feed"](state, chunk)
    lacks = outcome[b"lacks"](state, ended)
    lacks = lacks[0] if isinstance(lacks, tuple) else lacks
    return outcome[b"finish"](state, ended, True).decode(), lacks and lacks.decode()


def pieces(raw: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    return [raw[a:b] for a, b in pairwise(at)]


# What a model may say, so that it looks like the end, or an error, of its own stream.
tricks = st.sampled_from([
    "data: [DONE]\n\n", "[DONE]", '{"error":{"message":"x"}}', "event: error\n", "event: message_stop\ndata: {}\n\n",
    '"done":true}', '{"done":true}\n', '"done":false}', '\\"done\\":true', "\r\n", "\u2028", "error", "é", "🙂",
])
texts = st.lists(st.one_of(tricks, st.text(max_size=8)), max_size=4).map("".join)
spaced = st.sampled_from([(",", ":"), (", ", ": ")])


def dumps(value: object, how: tuple[str, str], *, ascii_only: bool) -> str:
    return json.dumps(value, separators=how, ensure_ascii=ascii_only)


@st.composite
def sse(draw: st.DrawFn) -> tuple[bytes, str]:
    """A stream and its outcome, as known from how it was made."""
    how, plain, newline = draw(spaced), draw(st.booleans()), draw(st.sampled_from(["\n", "\r\n"]))
    space = draw(st.sampled_from(["", " ", "  "]))
    names = draw(st.booleans())
    frames, failed, verdict = [], False, None

    def frame(value: object, name: str = "") -> None:
        data = value if isinstance(value, str) else dumps(value, how, ascii_only=plain)
        event = f"event:{space}{name}{newline}" if name else ""
        frames.append(f"{event}data:{space}{data}{newline}{newline}")

    for _ in range(draw(st.integers(0, 4))):
        text = draw(texts)
        frame({"id": "1", "choices": [{"delta": {"content": text}}]}, draw(st.sampled_from(["", "content_block_delta"])) if names else "")
        if draw(st.booleans()):
            frames.append(f": ping{newline}{newline}")
    if draw(st.booleans()):
        failed = True
        error = {"error": draw(st.one_of(st.fixed_dictionaries({"message": texts}), texts))}
        frame(error, draw(st.sampled_from(ERROR_EVENTS)) if names else "")
    end = draw(st.sampled_from(["[DONE]", "event", "none"]))
    if end == "event":
        verdict = "error" if failed else "complete"
        frame({"type": "x", "text": draw(texts)}, draw(st.sampled_from(LAST_EVENTS)))
    if end == "[DONE]":
        verdict = verdict or ("error" if failed else "complete")
        frame("[DONE]")
    return "".join(frames).encode("utf-8", "replace"), verdict or ("error" if failed else "truncated")


@st.composite
def ndjson(draw: st.DrawFn) -> tuple[bytes, str]:
    how, plain = draw(spaced), draw(st.booleans())
    values: list[dict[str, object]] = [
        {"message": {"content": draw(texts), "done": True, "error": "x"}, "done": False}
        for _ in range(draw(st.integers(0, 4)))
    ]
    said = draw(st.sampled_from(["complete", "error", "truncated"]))
    if said == "complete":
        values.append({"message": {"content": draw(texts)}, "done": True, "done_reason": "stop"})
    elif said == "error":
        values.append({"error": draw(texts)})
    raw = "".join(dumps(value, how, ascii_only=plain) + "\n" for value in values)
    if draw(st.booleans()) and said != "truncated":
        raw = raw[:-1]     # the last line may lack its end
    return raw.encode("utf-8", "replace"), said


cuts = st.lists(st.integers(0, 2000), max_size=10)


@given(sse(), cuts)
def test_events_are_judged_right_and_the_same_however_they_are_cut(stream: tuple[bytes, str], at: list[int]) -> None:
    raw, expected = stream
    slow = judge([raw[i : i + 1] for i in range(len(raw))], SSE)
    assert slow[0] == expected
    assert slow[1] == ("error" if expected == "truncated" else "end")
    assert judge([raw], SSE) == slow
    assert judge(pieces(raw, at), SSE) == slow


@given(ndjson(), cuts)
def test_lines_are_judged_right_and_the_same_however_they_are_cut(stream: tuple[bytes, str], at: list[int]) -> None:
    raw, expected = stream
    slow = judge([raw[i : i + 1] for i in range(len(raw))], NDJSON)
    assert slow == (expected, "error" if expected == "truncated" else "end")
    assert judge([raw], NDJSON) == slow
    assert judge(pieces(raw, at), NDJSON) == slow


@given(st.one_of(sse(), ndjson()), cuts, st.integers(0, 3000))
def test_a_stream_that_breaks_off_is_whole_only_when_a_reader_has_its_end(
    stream: tuple[bytes, str], at: list[int], length: int
) -> None:
    raw = stream[0]
    kind = NDJSON if raw.startswith(b"{") else SSE
    sent = raw[: length % (len(raw) + 1)]
    said, _ = judge(pieces(sent, at), kind, ended=False)
    assert said == judge([sent[i : i + 1] for i in range(len(sent))], kind, ended=False)[0]
    read = told(sent, kind)
    if said == "complete":
        assert told(sent + b"\n\n", kind) == "complete"
    if read == "complete":
        assert said == "complete"


lines_of_any_kind = st.lists(st.one_of(
    st.sampled_from([
        b"data: [DONE]", b"data:[DONE] ", b"data: [DONE]x", b"event: message_stop", b"event: error", b"event:ping", b"",
        b"\r", b'data: {"error": {}}', b'data: {"error":"x"}', b'data: {"object":"error"}', b'data: {"x":"[DONE]"}',
        b'data: {"x":"error"}', b'data: {"x":"event"}', b": x", b"data", b"data:", b"[DONE]", b'{"done":true}',
    ]),
    st.binary(max_size=90).map(lambda raw: raw.replace(b"\n", b"")),
), max_size=8).map(b"\n".join)


@given(lines_of_any_kind, cuts, st.booleans(), st.sampled_from([SSE, NDJSON]))
def test_the_quick_way_over_whole_frames_sees_what_the_slow_one_sees(
    raw: bytes, at: list[int], ended: bool, kind: str
) -> None:
    slow = judge([raw[i : i + 1] for i in range(len(raw))], kind, ended=ended)
    assert judge(pieces(raw, at), kind, ended=ended) == slow
    by_line = [line + b"\n" for line in raw.split(b"\n")]
    by_line[-1] = by_line[-1][:-1]
    assert judge([chunk for chunk in by_line if chunk], kind, ended=ended) == slow


def test_recorded_answers_are_judged_the_same_at_every_cut() -> None:
    for answer in answers():
        if not answer.streamed:
            continue
        whole = judge([answer.body], answer.kind)
        assert whole[0] == answer.ends
        for cut in range(len(answer.body) + 1):
            assert judge([answer.body[:cut], answer.body[cut:]], answer.kind) == whole, (answer.name, cut)


def test_recorded_answers_that_break_off_are_never_taken_for_whole() -> None:
    for answer in answers():
        for cut in range(len(answer.body) if answer.streamed else 0):
            sent = answer.body[:cut]
            said, lacks = judge([sent], answer.kind, ended=False)
            read = told(sent + b"\n\n", answer.kind)
            assert said != "complete" or read == "complete", (answer.name, cut)
            assert lacks == "error" or read != "nothing", (answer.name, cut)
