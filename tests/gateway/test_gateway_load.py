"""Many clients at once while weights change and vLLM comes and goes: nothing is lost, all is attributed."""

from __future__ import annotations

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from gateway_bench import Bench, chat
from gateway_fakes import SSE, drop, pieces, sse, status
from gateway_harness import ROUTE

pytestmark = pytest.mark.docker

CLIENTS, EACH = 8, 60


def test_every_request_is_answered_once_and_logged_on_the_side_that_answered(bench: Bench) -> None:
    over = threading.Event()

    def disturb() -> None:
        behaviours = [None, status(503), drop, None, status(500), status(400)]
        for round_ in range(10_000):
            if over.is_set():
                return
            bench.nginx.weights({ROUTE: (100, 50, 0, 30)[round_ % 4]})
            bench.engine.behave = behaviours[round_ % len(behaviours)]
            if round_ % 7 == 6:
                bench.engine.stop()
            elif round_ % 7 == 0:
                bench.engine.start()

    def client(_: int) -> list[str]:
        with httpx.Client(timeout=30) as http:
            url = f"{bench.nginx.public}/v1/chat/completions"
            return [http.post(url, json=chat()).raise_for_status().json()["from"] for _ in range(EACH)]

    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        with ThreadPoolExecutor(CLIENTS) as pool:
            answers = Counter(who for told in pool.map(client, range(CLIENTS)) for who in told)
    finally:
        over.set()
        disturber.join()
    bench.nginx.record(CLIENTS * EACH)
    via = {"ollama": "ollama", "direct": "engine", "adapter": "adapter"}
    records = bench.nginx.records()
    assert Counter(via[record["via"]] for record in records) == answers
    assert {record["outcome"] for record in records} == {"complete"}
    assert all((record["side"] == "ollama") == (record["via"] == "ollama") for record in records)
    assert len({record["id"] for record in records}) == CLIENTS * EACH
    assert bench.nginx.status()["live"]["by_route"][ROUTE] == {"ollama": 0, "vllm": 0}


def test_streams_outlive_changes_of_weight(bench: Bench) -> None:
    parts = sse(*({"choices": [n]} for n in range(20)), "[DONE]")
    gate = threading.Event()
    for fake in (bench.ollama, bench.engine):
        fake.behave = pieces(parts, SSE, gate=gate)
    bench.nginx.weights({ROUTE: 50})

    def client(_: int) -> bytes:
        return bench.chat(stream=True).content

    with ThreadPoolExecutor(32) as pool:
        waiting = [pool.submit(client, n) for n in range(32)]
        for weight in range(100, 0, -5):
            bench.nginx.weights({ROUTE: weight})
        gate.set()
        assert all(stream.result(30) == b"".join(parts) for stream in waiting)
    bench.nginx.record(32)
    assert Counter(record["outcome"] for record in bench.nginx.records()) == {"complete": 32}


def test_the_log_is_kept_below_a_size_and_read_on(bench: Bench) -> None:
    path = bench.nginx.etc / "config.json"
    before = path.read_text()
    path.write_text(json.dumps(json.loads(before) | {"log": {"most": 3000, "every": 0.1}}))
    bench.nginx.remove()
    bench.nginx.start()
    old = bench.nginx.state / "access.jsonl.1"
    try:
        at = 0
        for _ in range(400):
            bench.chat()
            at = max(at, int(bench.nginx.ask("GET", f"/control/log?from={at}").headers["X-Next"]))
            if old.exists() and bench.nginx.records():
                break
        kept = [json.loads(line) for line in old.read_text().splitlines()]
        assert kept
        page = bench.nginx.ask("GET", f"/control/log?from={at + 10**9}")
        ids = [json.loads(line)["id"] for line in page.text.splitlines()]
        assert ids
        assert not {one["id"] for one in kept} & set(ids)
        assert int(page.headers["X-Next"]) == len(page.content)
    finally:
        path.write_text(before)
        bench.nginx.remove()
        old.unlink(missing_ok=True)
        bench.nginx.start()
