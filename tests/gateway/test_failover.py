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


PATHS = [("/v1/chat/completions", "engine"), ("/api/chat", "adapter"), ("/api/generate", "adapter"), ("/v1/messages", "adapter")]


@pytest.mark.parametrize(("path", "side"), PATHS)
@pytest.mark.parametrize("how", ["drop", "refused"])
def test_vllm_answers_for_an_absent_ollama_where_it_has_traffic(bench: Bench, path: str, side: str, how: str) -> None:
    bench.nginx.weights({ROUTE: 0.1})    # nearly all are Ollama's
    if how == "refused":
        bench.ollama.stop()
    else:
        bench.ollama.behave = drop
    asked = [bench.post(path, chat()) for _ in range(5)]
    assert {(one.status_code, one.json()["from"]) for one in asked} == {(200, side)}
    records = [bench.nginx.record(5), *bench.nginx.records()]
    assert {record["side"] for record in records} == {"vllm"}
    assert any(record["failover"] for record in records)
    assert bench.nginx.status()["live"]["by_route"][ROUTE] == {"ollama": 0, "vllm": 0}
    if path != "/v1/chat/completions":
        assert bench.adapter.seen[-1].headers["X-Migrate-Route"] == ROUTE


@pytest.mark.parametrize(("path", "side"), PATHS)
def test_a_route_that_has_no_traffic_on_vllm_is_not_sent_there(bench: Bench, path: str, side: str) -> None:
    bench.ollama.stop()
    assert bench.post(path, chat()).status_code == 502
    assert bench.nginx.record()["outcome"] == "refused"
    assert not bench.engine.seen + bench.adapter.seen


@pytest.mark.parametrize("name", [FIXED, EMBED])
def test_nor_is_one_that_may_not_fail_over(bench: Bench, name: str) -> None:
    bench.nginx.weights({FIXED: 0.1})
    bench.ollama.stop()
    path = "/api/embed" if name == EMBED else "/api/chat"
    assert 502 in {bench.post(path, {"model": name}).status_code for _ in range(3)}
    assert not bench.adapter.seen or name == FIXED


@pytest.mark.parametrize("weight", [0.1, 100])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
def test_when_both_sides_are_dead_each_is_asked_once_and_the_client_is_told(
    bench: Bench, path: str, weight: float
) -> None:
    bench.nginx.weights({ROUTE: weight})
    for fake in (bench.ollama, bench.engine, bench.adapter):
        fake.stop()     # no connection is kept, that would be tried once more
        fake.start()
        fake.behave = drop
    answer = bench.post(path, chat())
    assert answer.status_code == 502
    assert "error" in answer.json()
    assert len(bench.ollama.seen) == 1
    assert len(bench.engine.seen + bench.adapter.seen) == 1


def circuit(bench: Bench, seconds: float) -> None:
    answer = bench.nginx.ask("POST", "/control/replica", json={"replica": "one", "seconds": seconds})
    assert answer.status_code == 200, answer.text


def test_an_open_circuit_keeps_requests_from_an_engine_until_it_is_closed(bench: Bench) -> None:
    bench.nginx.weights({ROUTE: 100})
    circuit(bench, 60)
    told = bench.nginx.status()["circuits"]["one"]
    assert told["by"] == "guard"
    assert 50 < told["out"] <= 60
    for path in ("/v1/chat/completions", "/api/chat"):
        assert bench.post(path, chat()).json()["from"] == "ollama"
    assert {(record["side"], record["failover"]) for record in (bench.nginx.record(2), *bench.nginx.records())} == {
        ("ollama", True)
    }
    assert not bench.engine.seen + bench.adapter.seen
    # The guard itself can look at it, and so can a check.
    assert bench.nginx.ask("POST", "/side/vllm/v1/chat/completions", json=chat()).json()["from"] == "engine"
    circuit(bench, 0)
    assert bench.nginx.status()["circuits"] == {}
    assert bench.chat().json()["from"] == "engine"


def test_an_open_circuit_closes_by_itself_when_nobody_speaks_for_it(bench: Bench) -> None:
    bench.nginx.weights({ROUTE: 100})
    circuit(bench, 0.05)
    for _ in range(100):
        if bench.chat().json()["from"] == "engine":
            break
    else:
        raise AssertionError("the circuit never closed")


def test_where_nobody_else_may_answer_an_open_circuit_is_an_error_at_once(bench: Bench) -> None:
    bench.nginx.weights({EMBED: 100, FIXED: 100})
    circuit(bench, 60)
    for path, name in (("/api/embed", EMBED), ("/api/chat", FIXED)):
        answer = bench.post(path, {"model": name})
        assert (answer.status_code, list(answer.json())) == (502, ["error"])
    assert not bench.ollama.seen + bench.adapter.seen
    assert {record["outcome"] for record in (bench.nginx.record(2), *bench.nginx.records())} == {"refused"}


def test_an_absent_ollama_does_not_send_requests_into_an_open_circuit(bench: Bench) -> None:
    bench.nginx.weights({ROUTE: 100})
    circuit(bench, 60)
    bench.ollama.stop()
    assert bench.chat().status_code == 502
    assert not bench.engine.seen


def test_what_the_gateway_finds_out_does_not_shorten_the_guards_word(bench: Bench) -> None:
    bench.nginx.weights({ROUTE: 100})
    circuit(bench, 60)
    bench.engine.stop()
    for _ in range(3):
        bench.chat()
    assert bench.nginx.status()["circuits"]["one"]["out"] > 50
