"""A response is judged the same however it is cut."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from gateway_lua import module
from hypothesis import given
from hypothesis import strategies as st

outcome = module("outcome")
SSE, NDJSON, JSON = "text/event-stream; charset=utf-8", "application/x-ndjson", "application/json"


def judge(
    chunks: list[bytes], kind: str, status: int = 200, *, generates: bool = True, ended: bool = True, died: bool = True
) -> str:
    state = outcome[b"new"](kind.encode(), status, generates)
    for chunk in chunks:
        state[b"feed"](state, chunk)
    return outcome[b"finish"](state, ended, died).decode()


def lines(*values: object) -> bytes:
    return b"".join(json.dumps(v, separators=(",", ":")).encode() + b"\n" for v in values)


PART, LAST = {"message": {"content": 'é"done":true}'}, "done": False}, {"message": {}, "done": True, "eval_count": 3}
CALL = {"message": {"tool_calls": [{"function": {"arguments": {"done": True, "error": "x"}}}]}, "done": False}
TOKEN = b'data: {"id":"1","choices":[{"delta":{"content":"\xc3\xa9 data: [DONE] \\n"}}]}\n\n'
FAIL = b'data: {"error": {"message": "EngineCore", "code": 500}}\n\n'
DONE = b"data: [DONE]\n\n"

CASES = [
    (TOKEN + TOKEN + DONE, SSE, "complete"),
    (TOKEN + FAIL + DONE, SSE, "error"),
    (TOKEN + FAIL, SSE, "error"),
    (FAIL, SSE, "error"),
    (TOKEN, SSE, "truncated"),
    (b"", SSE, "truncated"),
    (TOKEN + b"data: [DONE]", SSE, "complete"),
    (TOKEN + b"data: [DON", SSE, "truncated"),
    ((TOKEN + DONE).replace(b"\n", b"\r\n"), SSE, "complete"),
    (b": ping\n\n" + TOKEN + b"data:[DONE]\n\n", SSE, "complete"),
    (TOKEN + DONE + FAIL, SSE, "complete"),
    (b'event: message_start\ndata: {}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n', SSE, "complete"),
    (b'event: error\ndata: {"type":"error"}\n\n', SSE, "error"),
    (b"event: response.completed\ndata: {}\n\n", SSE, "complete"),
    (b"event: response.failed\ndata: {}\n\n", SSE, "error"),
    (lines(PART, PART, LAST), NDJSON, "complete"),
    (lines(PART, LAST)[:-1], NDJSON, "complete"),
    (b'{"message": {}, "done" : true}\n', NDJSON, "complete"),
    (lines(PART, PART), NDJSON, "truncated"),
    (lines(PART, CALL), NDJSON, "truncated"),
    (lines(CALL, LAST), NDJSON, "complete"),
    (lines(PART, {"error": "unexpected EOF"}), NDJSON, "error"),
    (lines(PART, LAST)[:-3], NDJSON, "truncated"),
    (b"", NDJSON, "truncated"),
    (lines({"status": "success"}), NDJSON, "truncated"),
    (b'{"done":false}', JSON, "complete"),
]


@pytest.mark.parametrize(("raw", "kind", "expected"), CASES)
def test_the_outcome_does_not_depend_on_the_cuts(raw: bytes, kind: str, expected: str) -> None:
    assert judge([raw], kind) == expected
    assert judge([raw[i : i + 1] for i in range(len(raw))], kind) == expected
    for cut in range(len(raw) + 1):
        assert judge([raw[:cut], raw[cut:]], kind) == expected


@given(st.sampled_from(CASES), st.lists(st.integers(0, 400), max_size=8))
def test_any_set_of_cuts(case: tuple[bytes, str, str], cuts: list[int]) -> None:
    raw, kind, expected = case
    at = sorted({0, len(raw), *(c % (len(raw) + 1) for c in cuts)})
    assert judge([raw[a:b] for a, b in pairwise(at)], kind) == expected


@given(st.binary(max_size=300), st.sampled_from([SSE, NDJSON, JSON]))
def test_garbage_never_raises(raw: bytes, kind: str) -> None:
    assert judge([raw], kind) in {"complete", "error", "truncated"}


def test_streams_that_do_not_generate_end_as_they_like() -> None:
    assert judge([lines({"status": "a"}, {"status": "success"})], NDJSON, generates=False) == "complete"
    assert judge([lines({"status": "a"}) + b'{"stat'], NDJSON, generates=False) == "truncated"
    assert judge([lines({"status": "a"}, {"error": "x"})], NDJSON, generates=False) == "error"


@pytest.mark.parametrize(
    ("raw", "kind", "status", "ended", "died", "expected"),
    [
        (b"{", JSON, 200, False, True, "truncated"),
        (b"{", JSON, 200, False, False, "client_left"),
        (TOKEN, SSE, 200, False, False, "client_left"),
        (TOKEN, SSE, 200, False, True, "truncated"),
        (TOKEN + DONE, SSE, 200, False, False, "complete"),
        (FAIL, SSE, 200, False, False, "error"),
        (b"{}", JSON, 500, True, False, "error"),
        (b"{}", JSON, 503, False, False, "client_left"),
        (b"{}", JSON, 404, True, False, "complete"),
        (b"", SSE, 400, True, False, "complete"),
    ],
)
def test_who_broke_off(raw: bytes, kind: str, status: int, ended: bool, died: bool, expected: str) -> None:
    assert judge([raw], kind, status, ended=ended, died=died) == expected
