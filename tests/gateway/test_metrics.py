"""GET /metrics of the real gateway, read by Prometheus' own parsers."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from gateway_bench import Bench, chat
from gateway_fakes import NDJSON, SSE, Fake, drop, lines, pieces, sse, status
from gateway_harness import EMBED, FIXED, ROUTE, ROUTES, SPREAD, STICKY, TEMPLATES, Nginx, docker
from gateway_metrics import PREFIX, Samples, after, ended, served, settled

pytestmark = pytest.mark.docker

FRAMES = sse({"choices": [1]}, {"choices": [2]}, "[DONE]")


def test_it_needs_the_token_and_comes_in_both_formats(bench: Bench) -> None:
    assert httpx.get(f"{bench.nginx.control}/metrics").status_code == 401
    assert httpx.get(f"{bench.nginx.public}/metrics").json()["from"] == "ollama", "no door of the public port"
    bench.chat()
    plain, both = Samples(bench.nginx, "*/*"), Samples(bench.nginx)
    assert plain.type == "text/plain; version=0.0.4; charset=utf-8"
    assert both.type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert {f.name for f in plain.families} == {f.name for f in both.families}
    assert {family.documentation for family in both.families}.isdisjoint({"", None})
    assert bench.nginx.ask("POST", "/metrics").status_code == 404


def test_names_follow_the_conventions(bench: Bench) -> None:
    bench.chat()
    for family in Samples(bench.nginx).families:
        assert family.name.startswith(PREFIX)
        assert not family.name.endswith(("_total", "_ms", "_percent", "_count", "_sum"))
        if family.type == "histogram" or "time" in family.name.split("_"):
            assert family.name.endswith("_seconds")


def test_each_way_to_an_answer_is_counted_by_itself(bench: Bench) -> None:
    def act() -> None:
        bench.chat()                                             # weight 0: Ollama
        bench.chat(model="no-route")
        bench.nginx.weights({ROUTE: 100})
        bench.chat()                                             # direct
        bench.chat(logit_bias={"1": 1}, frobnicate=1)            # adapter
        bench.engine.behave = status(400)
        bench.chat()                                             # replayed through the adapter
        bench.engine.behave = status(503)
        bench.chat()                                             # Ollama in its place
        bench.engine.behave = None
        bench.post("/v1/embeddings", {"input": "x", "model": EMBED})

    found = ended(bench, 7, act)
    ours = ("public", ROUTE, "vllm", "one", "one")
    assert found == Counter({
        ("public", ROUTE, "ollama", "", "", "ollama", "complete", "2xx"): 1,
        ("public", "-", "ollama", "", "", "ollama", "complete", "2xx"): 1,
        (*ours, "direct", "complete", "2xx"): 1,
        (*ours, "adapter", "complete", "2xx"): 1,
        (*ours, "replayed", "complete", "2xx"): 1,
        ("public", ROUTE, "ollama", "", "", "failover", "complete", "2xx"): 1,
        ("public", EMBED, "ollama", "", "", "ollama", "complete", "2xx"): 1,
    })  # fmt: skip


def test_outcomes_and_codes_are_counted(bench: Bench) -> None:
    bench.nginx.weights({FIXED: 100})

    def act() -> None:
        bench.engine.behave = status(500)
        bench.chat(model=FIXED)
        bench.engine.behave = status(404)
        bench.chat(model=FIXED)
        bench.engine.behave = pieces(FRAMES[:1], SSE)            # ends without [DONE]
        bench.chat(model=FIXED, stream=True)
        bench.engine.behave = drop
        bench.chat(model=FIXED)

    found = Counter()
    for labels, n in ended(bench, 4, act).items():
        found[labels[-3:]] += n
    assert found == {("direct", "error", "5xx"): 1, ("direct", "complete", "4xx"): 1, ("direct", "truncated", "2xx"): 1,
                     ("gateway", "refused", "5xx"): 1}  # fmt: skip


def test_a_client_that_leaves_before_the_headers_got_no_code(bench: Bench) -> None:
    gate = threading.Event()

    async def late(request, body):
        import asyncio

        await asyncio.to_thread(gate.wait, 20)
        return await bench.ollama.plain(request, body)

    bench.ollama.behave = late

    def act() -> None:
        with pytest.raises(httpx.ReadTimeout):
            bench.post("/v1/chat/completions", chat(), timeout=0.3)

    found = ended(bench, 1, act)
    gate.set()
    assert list(found) == [("public", ROUTE, "ollama", "", "", "ollama", "client_left", "none")]


def test_checks_are_counted_apart_from_clients(bench: Bench) -> None:
    found = ended(bench, 1, lambda: bench.nginx.ask("POST", "/side/vllm/v1/chat/completions", json=chat()))
    assert list(found) == [("control", ROUTE, "vllm", "one", "one", "direct", "complete", "2xx")]


def test_times_are_counted_where_they_mean_something(bench: Bench) -> None:
    before = settled(bench.nginx)
    labels = {"door": "public", "route": STICKY, "side": "ollama"}
    first, total = "time_to_first_token_seconds", "request_duration_seconds"
    gate = threading.Event()
    bench.ollama.behave = pieces(FRAMES, SSE, gate=gate)
    threading.Timer(0.5, gate.set).start()
    bench.chat(model=STICKY, stream=True)
    bench.ollama.behave = pieces(lines({"done": False}, {"done": True}), NDJSON)
    bench.post("/api/chat", {"messages": [], "model": STICKY})
    bench.ollama.behave = status(200)
    bench.chat(model=STICKY)          # a whole answer has no first token
    bench.ollama.behave = status(500)
    bench.chat(model=STICKY)          # what fails at once is not quick
    now = after(bench.nginx, before, 4)

    def more(name: str, **also: str) -> float:
        return now.of(name, **labels, **also) - before.of(name, **labels, **also)

    assert (more(f"{first}_count"), more(f"{total}_count")) == (2, 3)
    assert more(f"{first}_sum") < more(f"{total}_sum") < 30
    assert more(f"{total}_bucket", le="600.0") == more(f"{total}_bucket", le="+Inf") == 3
    assert more(f"{total}_bucket", le="0.32") == 2, "one took longer"


def test_replicas_are_counted_one_by_one(bench: Bench) -> None:
    bench.nginx.weights({SPREAD: 100})

    def act() -> None:
        for number in range(30):
            bench.chat(model=SPREAD, messages=[{"role": "user", "content": f"talk {number}"}])

    found = Counter()
    for labels, n in ended(bench, 30, act).items():
        assert labels[1:4] == (SPREAD, "vllm", "two")
        found[labels[4]] += n
    assert found == {name: len(fake.seen) for name, fake in bench.replicas.items()}
    now = Samples(bench.nginx)
    assert set(now.by("replica_in_flight_requests", "replica")) == set(bench.replicas)
    assert set(now.by("circuit_state", "replica")) == {"one", *bench.replicas}


def test_what_is_set_is_shown(bench: Bench) -> None:
    bench.nginx.weights({ROUTE: 37.5})
    bench.nginx.ask("POST", "/control/hold", json={"on": True, "seconds": 30})
    bench.nginx.ask("POST", "/control/replica", json={"replica": "two-2", "seconds": 30})
    bench.nginx.ask("POST", "/control/lease", json={"owner": "me", "seconds": 60, "fallback": {ROUTE: 0}})
    waiting = threading.Thread(target=bench.chat)
    waiting.start()
    until = time.monotonic() + 10
    while bench.nginx.status()["hold"]["waiting"] < 1 and time.monotonic() < until:
        time.sleep(0.01)
    now = Samples(bench.nginx)
    bench.nginx.ask("POST", "/control/hold", json={"on": False})
    bench.nginx.ask("POST", "/control/replica", json={"replica": "two-2", "seconds": 0})
    bench.nginx.ask("POST", "/control/lease", json={"owner": "me", "seconds": 0})
    waiting.join(20)
    assert now.by("weight_ratio", "route") == {**dict.fromkeys(ROUTES, 0), ROUTE: 0.375}
    assert now.of("weights_version") == bench.nginx.status()["version"]
    assert abs(now.of("weights_changed_timestamp_seconds") - time.time()) < 60
    assert 0 < now.of("lease_expires_timestamp_seconds") - time.time() <= 60
    assert (now.of("hold_active"), now.of("held_requests")) == (1, 1)
    states = {s.labels["replica"]: s.labels["state"] for s in now.samples if s.name == f"{PREFIX}circuit_state" and s.value}
    assert states == {"one": "closed", "two": "closed", "two-2": "out", "two-3": "closed"}
    assert (Samples(bench.nginx).of("hold_active"), Samples(bench.nginx).of("held_requests")) == (0, 0)
    assert now.of("info", stack="demo", role="final") == 1


def test_what_is_in_flight_is_shown(bench: Bench) -> None:
    gate = threading.Event()
    bench.nginx.weights({ROUTE: 0})
    bench.ollama.behave = pieces(FRAMES, SSE, gate=gate)
    url = f"{bench.nginx.public}/v1/chat/completions"
    with httpx.stream("POST", url, json=chat(stream=True), timeout=30) as known:
        one = known.iter_raw()
        next(one)
        with httpx.stream("POST", url, json=chat(stream=True, model="no-route"), timeout=30) as other:
            two = other.iter_raw()
            next(two)
            now = Samples(bench.nginx)
            assert now.of("in_flight_requests", route=ROUTE, side="ollama") == 1
            assert now.of("in_flight_requests", route="-", side="ollama") == 1
            assert now.of("in_flight_requests", side="vllm") == 0
            gate.set()
            assert b"".join([*one, *two]).count(b"[DONE]") == 2


def test_all_workers_count_together_and_a_reload_forgets_nothing(tmp_path: Path, bench: Bench) -> None:
    with served(tmp_path, bench) as (own, upstreams):
        count_over_a_reload(own, upstreams["ollama"])


def count_over_a_reload(own: Nginx, ollama: Fake) -> None:
    url = f"{own.public}/v1/chat/completions"
    before = Samples(own)
    for _ in range(40):                       # each on a connection of its own, so on any worker
        httpx.post(url, json=chat(), timeout=30).raise_for_status()
    gate = threading.Event()
    ollama.behave = pieces(FRAMES, SSE, gate=gate)
    with httpx.stream("POST", url, json=chat(stream=True), timeout=30) as answer:
        chunks = answer.iter_raw()
        next(chunks)
        docker("kill", "-s", "HUP", own.container)
        ollama.behave = None
        for _ in range(20):
            httpx.post(url, json=chat(), timeout=30).raise_for_status()
        gate.set()                            # the stream ends in a worker of before the reload
        for _ in chunks:
            pass
    now = after(own, before, 61)
    assert now.of("request_duration_seconds_count") == 61
    assert now.of("time_to_first_token_seconds_count") == 1
    assert now.of("in_flight_requests") == 0


def test_every_metric_label_and_field_is_documented(bench: Bench) -> None:
    text = (TEMPLATES.parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")
    words = set(re.findall(r"\w+", text))
    bench.chat()
    bench.chat(model=SPREAD)
    now = settled(bench.nginx)
    assert {family.name.removesuffix("_total") for family in now.families} <= {word.removesuffix("_total") for word in words}
    assert {label for sample in now.samples for label in sample.labels} - {"le"} <= words
    bench.nginx.record(2)
    assert {field for record in bench.nginx.records() for field in record} <= set(re.findall(r"`(\w+)`", text))
