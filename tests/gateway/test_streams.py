"""Streams pass unbuffered and are judged by their end."""

from __future__ import annotations

import json
import re
import threading

import httpx
import pytest
from gateway_bench import Bench, chat
from gateway_fakes import NDJSON, SSE, hang, lines, pieces, sse, status
from gateway_harness import ROUTE

pytestmark = pytest.mark.docker

TOKEN = {"choices": [{"delta": {"content": "x"}}]}
ERROR = {"error": {"message": "EngineCore encountered an issue.", "type": "InternalServerError"}}
PART = {"message": {"content": "x"}, "done": False}
LAST = {"message": {"content": ""}, "done": True}


def read(bench: Bench, path: str, body: dict) -> tuple[bytes, str]:
    """Read a stream to its end, however it ends; return what came and the outcome in the log."""
    got = b""
    try:
        with httpx.stream("POST", bench.nginx.public + path, json=body, timeout=30) as answer:
            for chunk in answer.iter_raw():
                got += chunk
    except httpx.RemoteProtocolError:
        pass
    return got, bench.nginx.record()["outcome"]


@pytest.mark.parametrize("weight", [0, 100])
@pytest.mark.parametrize(
    ("path", "parts", "kind"),
    [
        ("/v1/chat/completions", sse(TOKEN, TOKEN, "[DONE]"), SSE),
        ("/api/chat", lines(PART, PART, LAST), NDJSON),
    ],
)
def test_the_first_token_arrives_before_the_second_is_sent(
    bench: Bench, weight: int, path: str, parts: list[bytes], kind: str
) -> None:
    bench.nginx.weights({ROUTE: weight})
    gate = threading.Event()
    for fake in (bench.ollama, bench.engine, bench.adapter):
        fake.behave = pieces(parts, kind, gate=gate)
    with httpx.stream("POST", bench.nginx.public + path, json=chat(stream=True), timeout=30) as answer:
        chunks = answer.iter_raw()
        assert next(chunks) == parts[0]
        assert bench.nginx.status()["live"]["by_route"][ROUTE] == {
            "ollama": int(weight == 0),
            "vllm": int(weight == 100),
        }
        gate.set()
        assert b"".join(chunks) == b"".join(parts[1:])
    record = bench.nginx.record()
    assert record["outcome"] == "complete"
    assert 0 <= record["ttft_ms"] <= record["total_ms"]
    assert bench.nginx.status()["live"]["by_route"][ROUTE] == {"ollama": 0, "vllm": 0}


@pytest.mark.parametrize(
    ("path", "parts", "kind", "die", "outcome"),
    [
        ("/v1/chat/completions", sse(TOKEN, ERROR, "[DONE]"), SSE, False, "error"),
        ("/v1/chat/completions", sse(TOKEN, ERROR), SSE, True, "error"),
        ("/v1/chat/completions", sse(TOKEN, TOKEN), SSE, False, "truncated"),
        ("/v1/chat/completions", sse(TOKEN, TOKEN), SSE, True, "truncated"),
        ("/v1/chat/completions", sse(TOKEN, "[DONE]"), SSE, True, "complete"),
        ("/api/chat", lines(PART, {"error": "unexpected EOF"}), NDJSON, False, "error"),
        ("/api/chat", lines(PART, PART), NDJSON, False, "truncated"),
        ("/api/chat", lines(PART, PART), NDJSON, True, "truncated"),
        ("/api/pull", lines({"status": "pulling"}, {"status": "success"}), NDJSON, False, "complete"),
        ("/api/chat", [b'{"message":', b'{"content":"x"},"done":true}'], "application/json", False, "complete"),
        ("/api/chat", [b'{"message":'], "application/json", True, "truncated"),
    ],
)
def test_a_stream_is_judged_by_its_end(
    bench: Bench, path: str, parts: list[bytes], kind: str, die: bool, outcome: str
) -> None:
    bench.nginx.weights({ROUTE: 100})
    for fake in (bench.ollama, bench.engine, bench.adapter):
        fake.behave = pieces(parts, kind, die=die)
    got, logged = read(bench, path, chat(stream=True))
    assert logged == outcome
    if outcome == "truncated" and kind != "application/json":
        return  # the next test
    assert got == b"".join(parts)
    if path != "/api/pull":
        counts = bench.nginx.status()["counts"][ROUTE]["vllm"]
        assert counts[outcome] >= 1


@pytest.mark.parametrize(
    ("path", "parts", "kind", "end"),
    [
        ("/v1/chat/completions", sse(TOKEN, TOKEN), SSE, rb'\n\ndata: {"error":{.*"type":"api_error".*}}\n\n'),
        ("/v1/chat/completions", [*sse(TOKEN), b'data: {"cho'], SSE, rb'\n\ndata: {"error":{.*}}\n\n'),
        ("/v1/messages", sse(TOKEN), SSE, rb'\n\nevent: error\ndata: {.*"type":"error".*}\n\n'),
        ("/api/chat", [*lines(PART), b'{"mess'], NDJSON, rb'\n{"error":"[^"]*(lost|stopped)[^"]*"}\n'),
        ("/api/chat", lines(PART), NDJSON, rb'{"error":"[^"]*(lost|stopped)[^"]*"}\n'),
    ],
)
@pytest.mark.parametrize("weight", [0, 100])
@pytest.mark.parametrize("die", [True, False])
def test_a_stream_that_is_cut_or_just_stops_ends_with_an_explicit_error(
    bench: Bench, weight: int, path: str, parts: list[bytes], kind: str, end: bytes, die: bool
) -> None:
    bench.nginx.weights({ROUTE: weight})
    for fake in (bench.ollama, bench.engine, bench.adapter):
        fake.behave = pieces(parts, kind, die=die)
    got, logged = read(bench, path, chat(stream=True))
    assert logged == "truncated"
    assert got.startswith(b"".join(parts))
    assert re.fullmatch(end, got[len(b"".join(parts)) :])


def test_ttft_is_the_first_byte_of_the_body_not_the_headers(bench: Bench) -> None:
    bench.nginx.weights({ROUTE: 100})
    gate = threading.Event()
    bench.engine.behave = pieces([b"", *sse(TOKEN, "[DONE]")], SSE, gate=gate)
    with httpx.stream("POST", f"{bench.nginx.public}/v1/chat/completions", json=chat(stream=True)) as answer:
        held = 0.3  # headers are here, the first token is not
        gate.wait(held)
        gate.set()
        answer.read()
    assert bench.nginx.record()["ttft_ms"] >= held * 1000 - 20  # both clocks count whole milliseconds


@pytest.mark.parametrize(("path", "weight"), [("/v1/chat/completions", 100), ("/api/chat", 100), ("/api/chat", 0)])
@pytest.mark.parametrize("after_first", [True, False])
def test_a_client_that_leaves_stops_the_upstream(bench: Bench, path: str, weight: int, after_first: bool) -> None:
    bench.nginx.weights({ROUTE: weight})
    side = bench.ollama if weight == 0 else bench.engine if path.startswith("/v1") else bench.adapter
    gate = threading.Event()
    parts = sse(TOKEN, TOKEN, "[DONE]") if path.startswith("/v1") else lines(PART, PART, LAST)
    side.behave = pieces(parts if after_first else [b"", *parts], SSE if path.startswith("/v1") else NDJSON, gate=gate)
    with httpx.stream("POST", bench.nginx.public + path, json=chat(stream=True), timeout=30) as answer:
        if after_first:
            next(answer.iter_raw())
    assert side.left.wait(5)
    assert bench.nginx.record()["outcome"] == "client_left"


def test_a_client_that_leaves_before_the_headers_stops_the_upstream(bench: Bench) -> None:
    bench.nginx.weights({ROUTE: 100})
    bench.engine.behave = hang
    with pytest.raises(httpx.ReadTimeout):
        bench.post("/v1/chat/completions", chat(), timeout=0.3)
    assert bench.engine.left.wait(5)
    record = bench.nginx.record()
    assert (record["outcome"], record["side"], record["failover"]) == ("client_left", "vllm", False)
    assert not bench.ollama.seen


def test_an_explicit_refusal_of_the_input_is_complete(bench: Bench) -> None:
    bench.ollama.behave = status(404, '{"error":"model not found"}')
    assert bench.post("/api/chat", {"model": "other"}).status_code == 404
    record = bench.nginx.record()
    assert (record["outcome"], record["status"], record["side"], record["route"]) == ("complete", 404, "ollama", None)


def test_a_500_of_ollama_passes_untouched_and_is_an_error(bench: Bench) -> None:
    bench.ollama.behave = status(500, '{"error":"out of memory"}')
    answer = bench.post("/api/chat", {"model": ROUTE})
    assert (answer.status_code, answer.text) == (500, '{"error":"out of memory"}')
    assert bench.nginx.record()["outcome"] == "error"


def test_a_prompt_is_never_logged(bench: Bench) -> None:
    bench.chat(messages=[{"role": "user", "content": "s3cret-prompt"}], user="s3cret-user")
    bench.post("/api/chat?key=s3cret-query", {"model": "other"}, headers={"Authorization": "s3cret-key"})
    bench.nginx.record(2)
    assert "s3cret" not in (bench.nginx.state / "access.jsonl").read_text()
    assert "s3cret" not in bench.nginx.logs()


def test_odd_names_leave_a_readable_log(bench: Bench) -> None:
    name = 'a"b\\c\n\x00é' + "x" * 1000
    bench.post("/api/chat", json.dumps({"model": name}).encode())
    record = bench.nginx.record()
    assert record["model"].startswith('a"b\\c%0A')
    assert len(record["model"]) < 1000
