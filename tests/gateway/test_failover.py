"""What vLLM does not take before its headers, Ollama answers, once, and the log says who did."""

from __future__ import annotations

import socket

import httpx
import pytest
from gateway_bench import Bench, chat
from gateway_fakes import drop, status
from gateway_harness import EMBED, FIXED, ROUTE

pytestmark = pytest.mark.docker


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
@pytest.mark.parametrize("how", ["500", "502", "503", "drop", "refused"])
def test_ollama_answers_for_a_failing_vllm(bench: Bench, path: str, how: str) -> None:
    bench.nginx.weights({ROUTE: 100})
    side = bench.engine if path.startswith("/v1") else bench.adapter
    if how == "refused":
        side.stop()
    else:
        side.behave = drop if how == "drop" else status(int(how))
    before = bench.nginx.status()["failovers"].get(ROUTE, 0)
    answer = bench.post(path, chat())
    assert (answer.status_code, answer.json()["from"]) == (200, "ollama")
    assert len(bench.ollama.seen) == 1
    assert bench.ollama.seen[0].path == path
    assert "X-Migrate-Route" not in bench.ollama.seen[0].headers
    record = bench.nginx.record()
    assert (record["side"], record["via"], record["engine"], record["failover"], record["outcome"]) == (
        "ollama",
        "ollama",
        None,
        True,
        "complete",
    )
    assert record["upstream"].endswith(f":{bench.nginx.ports.ollama}")
    assert bench.nginx.status()["failovers"][ROUTE] == before + 1
    assert bench.nginx.status()["live"]["by_route"][ROUTE] == {"ollama": 0, "vllm": 0}


def test_vllm_is_back_with_the_next_request(bench: Bench) -> None:
    bench.nginx.weights({ROUTE: 100})
    bench.engine.stop()
    assert bench.chat().json()["from"] == "ollama"
    bench.engine.start()
    assert bench.chat().json()["from"] == "engine"


@pytest.mark.parametrize("code", [400, 401, 404, 422, 429])
def test_what_is_no_failure_of_vllm_is_passed_on(bench: Bench, code: int) -> None:
    bench.nginx.weights({ROUTE: 100})
    bench.adapter.behave = status(code)
    answer = bench.post("/api/chat", chat())
    assert (answer.status_code, answer.text) == (code, '{"error":"told to"}')
    assert not bench.ollama.seen
    assert bench.nginx.record()["outcome"] == "complete"


def test_a_400_of_the_direct_path_is_replayed_once_through_the_adapter(bench: Bench) -> None:
    bench.nginx.weights({ROUTE: 100})
    bench.engine.behave = status(400)
    assert bench.chat().json()["from"] == "adapter"
    assert len(bench.adapter.seen) == 1
    assert bench.adapter.seen[0].body == bench.engine.seen[0].body
    assert bench.adapter.seen[0].headers["X-Migrate-Route"] == ROUTE
    record = bench.nginx.record()
    assert (record["side"], record["via"], record["failover"]) == ("vllm", "adapter", False)
    bench.adapter.behave = status(400)
    assert bench.chat().status_code == 400
    assert len(bench.adapter.seen) == 2
    assert not bench.ollama.seen


def test_a_replay_that_fails_falls_back(bench: Bench) -> None:
    bench.nginx.weights({ROUTE: 100})
    bench.engine.behave = status(400)
    bench.adapter.stop()
    assert bench.chat().json()["from"] == "ollama"
    assert bench.nginx.record()["failover"] is True


@pytest.mark.parametrize(("name", "path"), [(FIXED, "/api/chat"), (EMBED, "/api/embed")])
def test_a_route_without_a_way_back_shows_vllms_own_error(bench: Bench, name: str, path: str) -> None:
    bench.nginx.weights({name: 100})
    bench.adapter.behave = status(500)
    answer = bench.post(path, {"model": name})
    assert (answer.status_code, answer.text) == (500, '{"error":"told to"}')
    assert not bench.ollama.seen
    record = bench.nginx.record()
    assert (record["side"], record["outcome"], record["failover"]) == ("vllm", "error", False)


@pytest.mark.parametrize("weight", [0, 100])
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/api/chat", lambda body: body["error"]),
        ("/v1/chat/completions", lambda body: body["error"]["message"]),
        ("/v1/messages", lambda body: body["type"] == "error" and body["error"]["message"]),
    ],
)
def test_nothing_there_is_said_in_the_protocols_form(bench: Bench, weight: int, path: str, message) -> None:
    bench.nginx.weights({ROUTE: weight})
    for fake in (bench.ollama, bench.adapter, bench.engine):
        fake.stop()
    answer = bench.post(path, chat())
    assert answer.status_code == 502
    assert "cannot be reached" in message(answer.json())
    record = bench.nginx.record()
    assert (record["outcome"], record["status"], record["side"]) == ("refused", 502, "ollama")


@pytest.mark.parametrize(("method", "path"), [("GET", "/api/tags"), ("GET", "/v1/models"), ("POST", "/api/show")])
def test_the_adapter_answers_for_an_absent_ollama_what_it_knows(bench: Bench, method: str, path: str) -> None:
    bench.ollama.stop()
    answer = httpx.request(method, bench.nginx.public + path, json={"model": ROUTE} if method == "POST" else None)
    assert answer.json()["from"] == "adapter"
    assert bench.nginx.record()["failover"] is True
    assert httpx.post(bench.nginx.public + "/api/pull", json={"model": "x"}).status_code == 502


def test_an_engine_that_hangs_up_on_a_kept_connection_costs_nothing(bench: Bench) -> None:
    bench.nginx.weights({ROUTE: 100})
    for _ in range(4):
        assert bench.chat().json()["from"] == "engine"
    bench.engine.stop()
    bench.engine.start()
    for _ in range(4):
        assert bench.chat().json()["from"] == "engine"
    assert not bench.ollama.seen


def test_an_address_that_swallows_connections_costs_one_request_its_time(bench: Bench) -> None:
    bench.nginx.weights({ROUTE: 100})
    bench.engine.stop()
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        full.bind(("127.0.0.1", bench.engine.port))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        assert {bench.chat().json()["from"] for _ in range(6)} == {"ollama"}
    tried = [str(bench.engine.port) in record["upstream"] for record in bench.nginx.records()]
    assert tried[0]
    assert not all(tried)
    assert all(record["failover"] for record in bench.nginx.records())
