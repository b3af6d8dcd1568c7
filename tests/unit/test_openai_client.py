"""The OpenAI-compatible door, and the reader of chat answers."""

from __future__ import annotations

import json

import httpx
import pytest

from orchestrator.clients.answers import read_plain, read_stream
from orchestrator.clients.openai import AnswerError, OpenAI, Unreachable, error_text


def door(answer, **options):
    return OpenAI("http://door.test/side/vllm", transport=httpx.MockTransport(answer), **options)


def test_paths_and_headers_go_through_the_forced_side():
    seen = []

    def answer(request):
        seen.append((request.url.path, request.headers["authorization"], request.headers["x-migrate-engine"]))
        return httpx.Response(200, json={"data": [{"id": "m:1", "root": "org/m", "max_model_len": 8192}, {"id": "o"}]})

    with door(answer, headers={"Authorization": "Bearer t", "X-Migrate-Engine": "m-1"}) as client:
        models = client.models()
    assert seen == [("/side/vllm/v1/models", "Bearer t", "m-1")]
    assert [(m.id, m.root, m.max_model_len) for m in models] == [("m:1", "org/m", 8192), ("o", None, None)]


def test_chat_never_streams():
    def answer(request):
        return httpx.Response(200, json={"echo": json.loads(request.content)})

    with door(answer) as client:
        assert client.chat({"model": "m", "stream": True})["echo"] == {"model": "m", "stream": False}


def test_error_answer_keeps_status_and_words():
    def answer(_request):
        return httpx.Response(503, json={"error": {"message": "engine is dead", "code": 503}})

    with door(answer) as client, pytest.raises(AnswerError) as caught:
        client.health()
    assert (caught.value.status, caught.value.evidence) == (503, "engine is dead")


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadTimeout("late")])
def test_no_answer_is_unreachable(error):
    def answer(_request):
        raise error

    with door(answer) as client, pytest.raises(Unreachable, match="/side/vllm/v1/models"):
        client.models()


def test_unreadable_answer_is_an_answer_error():
    with door(lambda _: httpx.Response(200, text="hello")) as client, pytest.raises(AnswerError):
        client.embeddings({})


@pytest.mark.parametrize(
    "body, text",
    [
        (b'{"error":{"message":"no"}}', "no"),
        (b'{"error":"plain"}', "plain"),
        (b"<html>", "<html>"),
        (b"[1]", "[1]"),
    ],
)
def test_error_text_of_both_dialects(body, text):
    assert error_text(body) == text


def sse(*events, done=True):
    lines = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events]
    return [*lines, b"data: [DONE]\n\n"] if done else lines


def delta(finish=None, **content):
    return {"model": "m", "choices": [{"index": 0, "delta": content, "finish_reason": finish}]}


USAGE = {"model": "m", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}


def stamped(pieces):
    return [(1000 * i, piece) for i, piece in enumerate(pieces, 1)]


def test_vllm_stream_role_chunk_is_no_token():
    pieces = sse(delta(role="assistant", content=""), delta(content="a"), delta(content="b", finish="length"), USAGE)
    answer = read_stream(200, stamped(pieces))
    assert (answer.text, answer.finish_reason, answer.ending) == ("ab", "length", "complete")
    assert answer.stamps == [2000, 3000]
    assert (answer.prompt_tokens, answer.output_tokens, answer.model) == (5, 2, "m")


def test_ollama_stream_first_chunk_is_role_and_token_and_last_is_neither():
    pieces = sse(delta(role="assistant", content="a"), delta(content="b"), delta(finish="stop"))
    answer = read_stream(200, stamped(pieces))
    assert answer.stamps == [1000, 2000]
    assert answer.last_ns == 3000
    assert answer.ending == "complete"


def test_empty_delta_is_a_token_and_reasoning_is_too():
    pieces = sse(delta(role="assistant", content=""), delta(content=""), delta(reasoning="hm"), delta(finish="stop"))
    answer = read_stream(200, stamped(pieces))
    assert answer.stamps == [2000, 3000]
    assert (answer.text, answer.reasoning) == ("", "hm")


def test_events_cut_anywhere_are_read_the_same():
    whole = b"".join(sse(delta(content="héllo"), delta(content="b", finish="stop"), USAGE))
    for cut in range(1, len(whole)):
        answer = read_stream(200, [(1, whole[:cut]), (2, whole[cut:])])
        assert (answer.text, answer.ending, answer.output_tokens) == ("héllob", "complete", 2)


def test_error_frame_before_done_is_an_error():
    pieces = sse(delta(content="a"), {"error": {"message": "EngineCore encountered an issue."}})
    answer = read_stream(200, stamped(pieces))
    assert (answer.ending, answer.error) == ("error", "EngineCore encountered an issue.")


@pytest.mark.parametrize(
    "pieces",
    [sse(delta(content="a"), done=False), sse(delta(content="a")), []],
    ids=["no [DONE]", "no finish reason", "nothing"],
)
def test_stream_without_its_end_is_truncated(pieces):
    assert read_stream(200, stamped(pieces)).ending == "truncated"


@pytest.mark.parametrize("line", [b"data: {oops\n\n", b"data: [1]\n\n"])
def test_unreadable_event_is_an_error(line):
    assert read_stream(200, [(1, line)]).ending == "error"


def test_refusal_of_a_stream_request_keeps_its_message():
    answer = read_stream(400, [(1, b'{"error":{"message":"too long"}}')])
    assert (answer.ending, answer.error) == ("error", "too long")


def test_plain_answer():
    body = {
        "model": "m",
        "choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    }
    answer = read_plain(200, json.dumps(body).encode())
    assert (answer.text, answer.finish_reason, answer.output_tokens, answer.ending) == ("hi", "stop", 1, "complete")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error":{"message":"x"}}'])
def test_plain_errors(body):
    assert read_plain(200, body).ending == "error"
    assert read_plain(502, body).ending == "error"
