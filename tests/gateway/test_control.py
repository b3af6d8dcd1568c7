"""The control door of the real gateway, mostly through its client."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from gateway_bench import Bench, chat
from gateway_fakes import SSE, Fake, pieces, sse, status
from gateway_harness import ROUTE, STICKY, TOKEN, WRITTEN_TOGETHER, Nginx, Ports, docker

from orchestrator.clients.gateway import Conflict, Gateway
from orchestrator.errors import MigrateError

pytestmark = pytest.mark.docker


@pytest.fixture
def door(bench: Bench) -> Iterator[Gateway]:
    with Gateway(bench.nginx.control, TOKEN) as client:
        yield client


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Nginx]:
    """A gateway of the test's own, not started."""
    nginx = Nginx(tmp_path, Ports(21100))
    yield nginx
    nginx.remove()


def test_only_the_token_opens(bench: Bench) -> None:
    url = bench.nginx.control
    assert httpx.get(f"{url}/health").json() == {"status": "ok"}
    for headers in (
        {},
        {"Authorization": "Bearer no"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": TOKEN},
    ):
        for path in ("/control/status", "/control/log", "/side/ollama/api/tags", "/side/vllm/api/tags", "/other"):
            assert httpx.get(url + path, headers=headers).status_code == 401
        answer = httpx.post(f"{url}/control/weights", json={"version": None, "weights": {ROUTE: 0}}, headers=headers)
        assert answer.status_code == 401
    assert not bench.ollama.seen
    assert not bench.adapter.seen


def test_the_public_door_has_no_control(bench: Bench) -> None:
    bench.nginx.ask("GET", "/control/status").raise_for_status()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert httpx.get(f"{bench.nginx.public}/control/status", headers=headers).json()["from"] == "ollama"
    assert httpx.get(f"{bench.nginx.public}/side/vllm/x", headers=headers).json()["from"] == "ollama"


def test_identity(bench: Bench, door: Gateway) -> None:
    answer = httpx.get(f"{bench.nginx.public}/_migrate/id").json()
    assert answer == {"stack": "demo", "role": "final", "version": door.status().version}


def test_weights_are_compared_and_set(door: Gateway) -> None:
    version = door.status().version
    assert door.set_weights({ROUTE: 10.1}, version, "a") == version + 1
    with pytest.raises(Conflict) as caught:
        door.set_weights({ROUTE: 20}, version, "b")
    assert caught.value.version == version + 1
    with pytest.raises(Conflict):
        door.set_weights({ROUTE: 10.2}, None, "may only lower")
    assert door.set_weights({ROUTE: 10}, None, "guard") == version + 2
    weights = door.status().weights
    assert (weights[ROUTE], weights[STICKY]) == (10, 0)
    assert door.status().by == "guard"


def test_of_many_writers_one_wins(bench: Bench, door: Gateway) -> None:
    version = door.status().version

    def write(weight: int) -> int | None:
        with Gateway(bench.nginx.control, TOKEN) as client:
            try:
                return client.set_weights({ROUTE: weight}, version, str(weight)) and weight
            except Conflict:
                return None

    with ThreadPoolExecutor(16) as pool:
        won = [w for w in pool.map(write, range(1, 17)) if w]
    assert len(won) == 1
    assert door.status().weights[ROUTE] == won[0]
    assert door.status().version == version + 1


@pytest.mark.parametrize(
    "body",
    [
        b"no json", b"[]", b'{"weights":{}}', b'{"weights":{"nope":1}}', b'{"version":"x","weights":{"llama3.1:8b":0}}',
        b'{"weights":{"llama3.1:8b":-1}}', b'{"weights":{"llama3.1:8b":100.1}}', b'{"weights":{"llama3.1:8b":0.15}}',
        b'{"weights":{"llama3.1:8b":"10"}}', b'{"weights":{"llama3.1:8b":null}}', b'{"weights":null}',
        b'{"weights":{"nomic-embed-text:latest":50}}',
    ],
)  # fmt: skip
def test_bad_weights_change_nothing(bench: Bench, door: Gateway, body: bytes) -> None:
    before = door.status()
    answer = bench.nginx.ask("POST", "/control/weights", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert door.status().weights == before.weights
    assert door.status().version == before.version


def test_weights_and_lease_survive_a_restart(own: Nginx) -> None:
    own.start()
    with Gateway(own.control, TOKEN) as door:
        assert door.status().version == 0
        door.set_weights({ROUTE: 37.5}, 0, "test")
        lease = door.lease("me", 600, {ROUTE: 10})
        assert json.loads((own.state / "weights.json").read_text())["weights"] == {ROUTE: 37.5}
        own.remove()  # killed, not stopped
        own.start()
        after = door.status()
    assert (after.version, after.weights[ROUTE]) == (1, 37.5)
    assert after.lease is not None
    assert (after.lease.owner, after.lease.fallback) == ("me", {ROUTE: 10})
    assert after.lease.expires == pytest.approx(lease.expires)


def test_unreadable_weights_mean_that_ollama_serves_all(own: Nginx) -> None:
    (own.state / "weights.json").write_text('{"version": 3, "wei')
    own.start()
    with Gateway(own.control, TOKEN) as door:
        assert set(door.status().weights.values()) == {0}
    assert "not readable as weights" in own.logs()
    assert (own.state / "weights.json.bad").exists()


def test_upstreams_may_come_later(own: Nginx, bench: Bench) -> None:
    own.start()  # nothing listens on any of its upstream ports
    assert httpx.get(f"{own.public}/api/tags").status_code == 502
    assert own.record()["outcome"] == "refused"
    with Gateway(own.control, TOKEN) as door:
        assert door.status().weights[ROUTE] == 0


def test_a_lease_is_shown_and_released(door: Gateway) -> None:
    before = time.time()
    assert before < door.lease("me", 60, {ROUTE: 0}).expires < time.time() + 61
    lease = door.status().lease
    assert lease is not None
    assert lease.owner == "me"
    door.release("me")
    assert door.status().lease is None
    with pytest.raises(MigrateError):
        door.lease("me", 60, {"nope": 1})


def test_the_log_comes_in_whole_lines_from_any_offset(bench: Bench, door: Gateway) -> None:
    start = door.log_end()
    for _ in range(3):
        bench.chat()
    records, after = door.log(start)             # with all that has ended
    assert len(records) == 3
    assert {r.side for r in records} == {"ollama"}
    assert door.log(after) == ([], after)
    assert door.log_end() == after
    bench.chat(model="other")
    assert [r.model for r in door.log(after)[0]] == ["other"]


def test_the_log_has_all_that_has_ended_though_workers_write_it_later(own: Nginx) -> None:
    conf = own.etc / "nginx.conf"
    conf.write_text(conf.read_text().replace("if=$gw_line;", f"if=$gw_line{WRITTEN_TOGETHER};"))
    own.start()
    with Gateway(own.control, TOKEN) as door:
        at = 0
        for count in (1, 7, 3):
            for _ in range(count):
                httpx.get(f"{own.public}/api/version")       # nobody is there: refused, and logged all the same
            records, at = door.log(at)
            assert [record.outcome for record in records] == ["refused"] * count


@pytest.mark.parametrize("weight", [0, 100])
def test_a_forced_side_takes_no_notice_of_weight_or_failure(bench: Bench, door: Gateway, weight: int) -> None:
    bench.nginx.weights({ROUTE: weight})
    bench.nginx.forget_records()
    ask = {"headers": door.auth_headers, "timeout": 30}
    vllm, ollama = door.side_url("vllm"), door.side_url("ollama")
    assert httpx.post(f"{vllm}/v1/chat/completions", json=chat(), **ask).json()["from"] == "engine"
    assert httpx.post(f"{vllm}/api/chat", json=chat(), **ask).json()["from"] == "adapter"
    assert httpx.post(f"{ollama}/api/chat?a=b%20c", json=chat(), **ask).json()["from"] == "ollama"
    assert httpx.get(f"{ollama}/api/tags", **ask).json()["from"] == "ollama"
    assert bench.ollama.seen[0].path == "/api/chat?a=b%20c"
    for fake in (bench.engine, bench.ollama, bench.adapter):
        assert all("Authorization" not in seen.headers for seen in fake.seen)
    bench.engine.behave = status(500, '{"error":"mine"}')
    answer = httpx.post(f"{vllm}/v1/chat/completions", json=chat(), **ask)
    assert (answer.status_code, answer.text) == (500, '{"error":"mine"}')
    bench.engine.behave = status(400)
    assert httpx.post(f"{vllm}/v1/chat/completions", json=chat(), **ask).json()["from"] == "adapter"
    assert all(record["forced"] for record in [bench.nginx.record(6), *bench.nginx.records()])
    assert [r["via"] for r in bench.nginx.records()] == ["direct", "adapter", "ollama", "ollama", "direct", "adapter"]


def test_a_change_of_weights_cuts_no_stream_and_no_connection(bench: Bench, door: Gateway) -> None:
    gate = threading.Event()
    parts = sse({"choices": [1]}, {"choices": [2]}, "[DONE]")
    bench.engine.behave = bench.ollama.behave = pieces(parts, SSE, gate=gate)
    door.set_weights({ROUTE: 100}, door.status().version, "test")
    url = f"{bench.nginx.public}/v1/chat/completions"
    with httpx.Client(timeout=30) as client, client.stream("POST", url, json=chat(stream=True)) as answer:
        chunks = answer.iter_raw()
        assert next(chunks) == parts[0]
        for weight in (0, 50, 0):
            door.set_weights({ROUTE: weight}, door.status().version, "test")
        assert door.status().live.vllm == 1
        gate.set()
        assert b"".join(chunks) == b"".join(parts[1:])
    record = bench.nginx.record()
    assert (record["side"], record["outcome"], record["weight"]) == ("vllm", "complete", 100)


def test_a_reload_keeps_weights_and_streams(own: Nginx, bench: Bench) -> None:
    own.start()
    gate = threading.Event()
    upstream = Fake("engine", own.ports.engine, bench.engine.loop)
    upstream.start()
    parts = sse({"choices": [1]}, {"choices": [2]}, "[DONE]")
    upstream.behave = pieces(parts, SSE, gate=gate)
    try:
        with Gateway(own.control, TOKEN) as door:
            door.set_weights({ROUTE: 100}, 0, "test")
            with httpx.stream(
                "POST", f"{own.public}/v1/chat/completions", json=chat(stream=True), timeout=30
            ) as answer:
                chunks = answer.iter_raw()
                assert next(chunks) == parts[0]
                docker("kill", "-s", "HUP", own.container)
                for _ in range(20):
                    assert door.status().weights[ROUTE] == 100
                    assert door.status().live.vllm == 1
                gate.set()
                assert b"".join(chunks) == b"".join(parts[1:])
            own.record()
            assert door.status().live.vllm == 0
    finally:
        upstream.stop()


def test_a_stop_lets_streams_end(own: Nginx, bench: Bench) -> None:
    own.start()
    gate = threading.Event()
    upstream = Fake("ollama", own.ports.ollama, bench.engine.loop)
    upstream.start()
    parts = sse({"choices": [1]}, {"choices": [2]}, "[DONE]")
    upstream.behave = pieces(parts, SSE, gate=gate)
    try:
        with httpx.stream("POST", f"{own.public}/v1/chat/completions", json=chat(stream=True), timeout=30) as answer:
            chunks = answer.iter_raw()
            assert next(chunks) == parts[0]
            docker("kill", "-s", "QUIT", own.container)
            gate.set()
            assert b"".join(chunks) == b"".join(parts[1:])
        assert docker("wait", own.container) == "0"
        assert own.record()["outcome"] == "complete"
    finally:
        upstream.stop()
