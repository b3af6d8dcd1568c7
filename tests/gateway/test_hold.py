"""Requests that wait while a side is swapped: bounded, in order, and let go whatever happens to a worker."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest
from gateway_bench import Bench, chat
from gateway_fakes import SSE, pieces, sse
from gateway_harness import DRAWN, EMBED, ROUTE, STICKY, TOKEN, docker
from gateway_metrics import settled

from orchestrator.clients.gateway import Gateway
from orchestrator.errors import MigrateError

pytestmark = pytest.mark.docker


@pytest.fixture
def door(bench: Bench) -> Iterator[Gateway]:
    with Gateway(bench.nginx.control, TOKEN) as client:
        yield client
        for route in (None, ROUTE, STICKY):
            client.hold(on=False, route=route)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as threads:
        yield threads


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def waiting(door: Gateway, route: str | None = None) -> int:
    hold = door.status().hold
    if route is None:
        return hold.waiting
    return hold.by_route[route].waiting if route in hold.by_route else 0


def line_up(bench: Bench, door: Gateway, pool: ThreadPoolExecutor, count: int, first: int = 0) -> list[Future]:
    """Ask one after the other, each once the one before it waits; they bear their number."""
    found = []
    before = waiting(door)
    for n in range(count):
        body = {"messages": [{"role": "user", "content": f"number {first + n:03d}"}]}
        found.append(pool.submit(bench.chat, **body))
        until(lambda n=n: waiting(door) == before + n + 1)
    return found


def numbers(bench: Bench) -> list[int]:
    seen = bench.ollama.seen + bench.engine.seen
    return [int(one.body.partition(b"number ")[2][:3]) for one in seen if b"number " in one.body]


def assert_in_order(bench: Bench, wanted: list[int]) -> None:
    """They were let go one after the other; on their way some that go at once may pass each other."""
    bench.nginx.record(len(wanted))
    let_go = [record["ts"] * 1000 + record["held_ms"] for record in bench.nginx.records()]
    # A worker's clock stands still while a busy machine lets it wait.
    assert all(b > a - 50 for a, b in itertools.pairwise(let_go)), let_go
    arrived = numbers(bench)
    assert sorted(arrived) == wanted
    passed = [abs(is_ - was) for is_, was in zip(arrived, wanted, strict=True)]
    assert sum(passed) / len(passed) <= 4, arrived        # by chance it would be a third of them


def test_held_requests_wait_and_then_go_where_the_weight_says(
    bench: Bench, door: Gateway, pool: ThreadPoolExecutor
) -> None:
    door.hold(on=True, seconds=60, route=ROUTE)
    held = line_up(bench, door, pool, 5)
    assert bench.chat(model=STICKY).json()["from"] == "ollama"   # other routes pass
    assert httpx.get(f"{bench.nginx.public}/api/tags").json()["from"] == "ollama"
    assert not any(one.done() for one in held)
    status = door.status().hold
    assert not status.on
    assert (status.by_route[ROUTE].on, status.by_route[ROUTE].waiting) == (True, 5)
    door.set_weights({ROUTE: 100}, door.status().version, "swap")
    door.hold(on=False, route=ROUTE)
    assert [one.result(30).json()["from"] for one in held] == ["engine"] * 5
    until(lambda: waiting(door) == 0)
    assert not door.status().hold.by_route
    bench.nginx.record(7)
    records = [record for record in bench.nginx.records() if record["model"] == ROUTE]
    assert all(0 < record["held_ms"] <= record["total_ms"] for record in records)


@pytest.mark.parametrize("route", [ROUTE, None])
def test_they_go_in_the_order_in_which_they_came(
    bench: Bench, door: Gateway, pool: ThreadPoolExecutor, route: str | None
) -> None:
    door.hold(on=True, seconds=60, route=route)
    held = line_up(bench, door, pool, 40)
    door.hold(on=False, route=route)
    for one in held:
        assert one.result(30).status_code == 200
    assert_in_order(bench, list(range(40)))


def test_a_hold_of_all_holds_every_model_but_not_the_store(
    bench: Bench, door: Gateway, pool: ThreadPoolExecutor
) -> None:
    door.hold(on=True, seconds=60)
    held = [pool.submit(bench.chat, model=name) for name in (ROUTE, "unknown:1b", DRAWN)]
    held.append(pool.submit(bench.post, "/api/embed", {"model": EMBED, "input": "x"}))
    until(lambda: waiting(door) == 4)
    assert bench.post("/api/pull", {"model": "x"}).json()["from"] == "ollama"
    assert bench.post("/api/blobs/sha256:0", b"x" * 100_000).json()["bytes"] == 100_000
    door.hold(on=False)
    assert all(one.result(30).json()["from"] == "ollama" for one in held)


def test_a_hold_ends_by_itself(bench: Bench, door: Gateway) -> None:
    for route in (ROUTE, None):
        door.hold(on=True, seconds=0.3, route=route)
        assert bench.chat().json()["from"] == "ollama"
        assert not door.status().hold.on
        assert not door.status().hold.by_route


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/v1/chat/completions", lambda body: body["error"]["message"]),
        ("/v1/messages", lambda body: body["error"]["message"] if body["type"] == "error" else ""),
        ("/api/chat", lambda body: body["error"]),
    ],
)
def test_more_than_may_wait_are_told_when_to_come_again(
    bench: Bench, door: Gateway, pool: ThreadPoolExecutor, path: str, shape
) -> None:
    door.hold(on=True, seconds=30, route=ROUTE, most=2)
    held = line_up(bench, door, pool, 2)
    answer = bench.post(path, chat())
    assert answer.status_code == 503
    assert "maximum pending requests" in shape(answer.json())
    assert 0 < int(answer.headers["Retry-After"]) <= 30
    assert waiting(door) == 2
    door.hold(on=False, route=ROUTE)
    assert [one.result(30).status_code for one in held] == [200, 200]
    assert bench.nginx.record(3)


def test_a_client_that_leaves_is_noticed_and_passed_over(
    bench: Bench, door: Gateway, pool: ThreadPoolExecutor
) -> None:
    door.hold(on=True, seconds=60, route=ROUTE)
    first = line_up(bench, door, pool, 2)
    body = b'{"model":"llama3.1:8b","messages":[{"role":"user","content":"number 900"}]}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", bench.nginx.ports.public)) as gone:
            gone.sendall(head.encode() + b"\r\n\r\n" + body)
            until(lambda: waiting(door) == 3)
        until(lambda: waiting(door) == 2)
    rest = line_up(bench, door, pool, 2)
    door.hold(on=False, route=ROUTE)
    assert [one.result(30).status_code for one in first + rest] == [200] * 4
    assert sorted(numbers(bench)) == [0, 0, 1, 1]
    bench.nginx.record(7)
    assert [record["outcome"] for record in bench.nginx.records()].count("client_left") == 3


def workers(bench: Bench) -> set[str]:
    """Return the pids of nginx's workers, told by how they begin: this script has the words in its own line."""
    begins = 'read -r l < $p/cmdline; case "$l" in "nginx: worker"*) echo ${p#/proc/}; esac'
    script = f"for p in /proc/[0-9]*; do {begins}; done 2>/dev/null; true"
    return set(docker("exec", bench.nginx.container, "sh", "-c", script).split())


def test_a_reload_loses_nobody_who_waits(bench: Bench, door: Gateway, pool: ThreadPoolExecutor) -> None:
    door.hold(on=True, seconds=60, route=ROUTE)
    old = line_up(bench, door, pool, 10)
    before = workers(bench)
    docker("kill", "-s", "HUP", bench.nginx.container)
    until(lambda: workers(bench) - before)
    assert door.status().hold.by_route[ROUTE].waiting == 10
    new = line_up(bench, door, pool, 10, first=10)
    door.hold(on=False, route=ROUTE)
    assert [one.result(30).status_code for one in old + new] == [200] * 20
    assert_in_order(bench, list(range(20)))


def test_a_dead_worker_blocks_nobody(bench: Bench, door: Gateway, pool: ThreadPoolExecutor) -> None:
    door.hold(on=True, seconds=60, route=ROUTE)
    held = line_up(bench, door, pool, 12)
    settled(bench.nginx)                     # a killed worker loses what it counted last, and the bench lives on
    docker("exec", bench.nginx.container, "sh", "-c", f"kill -9 {min(workers(bench))}")
    with Gateway(bench.nginx.control, TOKEN) as fresh:       # the old connection may have been the dead one's
        fresh.hold(on=False, route=ROUTE)
        ended = [one.exception(60) for one in held]
        assert any(one is None for one in ended)
        assert bench.chat().status_code == 200
        until(lambda: waiting(fresh) == 0)


def test_a_hold_touches_no_stream_that_runs(bench: Bench, door: Gateway) -> None:
    gate = threading.Event()
    parts = sse({"choices": [1]}, {"choices": [2]}, "[DONE]")
    bench.ollama.behave = pieces(parts, SSE, gate=gate)
    url = f"{bench.nginx.public}/v1/chat/completions"
    with httpx.stream("POST", url, json=chat(stream=True), timeout=30) as answer:
        chunks = answer.iter_raw()
        assert next(chunks) == parts[0]
        door.hold(on=True, seconds=60, route=ROUTE)
        assert door.status().live.by_route[ROUTE]["ollama"] == 1
        gate.set()
        assert b"".join(chunks) == b"".join(parts[1:])


@pytest.mark.parametrize(
    "body",
    [{}, {"on": True}, {"seconds": -1}, {"seconds": 601}, {"seconds": "5"}, {"on": True, "seconds": 0}, [1],
     {"seconds": 5, "route": "nope"}, {"seconds": 5, "route": 7}, {"seconds": 5, "most": -1},
     {"seconds": 5, "most": 1.5}, {"seconds": 5, "most": "x"}, {"seconds": 5, "most": 10**9}],
)  # fmt: skip
def test_an_odd_hold_is_refused(bench: Bench, door: Gateway, body) -> None:
    answer = bench.nginx.ask("POST", "/control/hold", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert not door.status().hold.on
    with pytest.raises(MigrateError):
        door.hold(on=True, seconds=100_000)


def test_a_route_goes_by_any_of_its_names(bench: Bench, door: Gateway) -> None:
    door.hold(on=True, seconds=30, route="LLAMA3.1:8B")
    assert door.status().hold.by_route[ROUTE].on
    door.hold(on=False, route="library/llama3.1:8b")
    assert not door.status().hold.by_route
