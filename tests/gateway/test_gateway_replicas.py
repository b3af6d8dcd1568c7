"""An engine with replicas behind the real gateway: who answers, and what a lost or hung replica costs."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import pytest
from gateway_bench import Bench, chat
from gateway_fakes import SSE, Fake, drop, hang, pieces, sse, status
from gateway_harness import REPLICAS, SPREAD, SPREAD_EMBED, SPREAD_FIXED, TOKEN

pytestmark = pytest.mark.docker

TALKS = [f"talk number {n}" for n in range(60)]


@pytest.fixture
def spread(bench: Bench) -> Iterator[Bench]:
    """Everything of the routes with replicas on vLLM; a gateway that remembers no failure."""
    bench.nginx.weights(dict.fromkeys((SPREAD, SPREAD_FIXED, SPREAD_EMBED), 100))
    forget(bench)
    yield bench
    forget(bench)


def forget(bench: Bench) -> None:
    for name in REPLICAS:
        assert out(bench, name, 0).status_code == 200
    assert not any(one["out"] or one["failed_lately"] for one in seen(bench).values())


def out(bench: Bench, name: object, seconds: object) -> httpx.Response:
    return bench.nginx.ask("POST", "/control/replica", json={"replica": name, "seconds": seconds})


def seen(bench: Bench) -> dict[str, dict]:
    return bench.nginx.status()["replicas"]["two"]


def ask(bench: Bench, talk: str = "hello", model: str = SPREAD, path: str = "/v1/chat/completions", **more) -> str:
    body = chat(model=model, messages=[{"role": "user", "content": talk}], **more)
    return bench.post(path, body).raise_for_status().json()["from"]


def home(bench: Bench, talk: str = "hello") -> Fake:
    """The replica of a conversation."""
    return bench.replicas[ask(bench, talk)]


def others(bench: Bench, one: Fake) -> set[str]:
    return {name for name, fake in bench.replicas.items() if fake is not one}


def test_conversations_spread_and_stay(spread: Bench) -> None:
    first = {talk: ask(spread, talk) for talk in TALKS}
    assert set(first.values()) == set(REPLICAS)
    for talk, replica in first.items():
        longer = [{"role": "user", "content": talk}, {"role": "assistant", "content": "a"},
                  {"role": "user", "content": "b"}]  # fmt: skip
        body = chat(model=SPREAD, messages=longer, temperature=0.5)
        assert spread.post("/v1/chat/completions", body).json()["from"] == replica
    assert not spread.ollama.seen
    assert not spread.engine.seen


def test_a_session_header_is_the_conversation(spread: Bench) -> None:
    body = [chat(model=SPREAD, messages=[{"role": "user", "content": talk}]) for talk in TALKS[:10]]
    for session in ("a", "b", "c"):
        found = {
            spread.post("/v1/chat/completions", one, headers={"X-Session-Id": session}).json()["from"] for one in body
        }
        assert len(found) == 1
    unnamed = {spread.post("/v1/chat/completions", one, headers={"X-Session-Id": ""}).json()["from"] for one in body}
    assert len(unnamed) > 1


def test_the_adapter_is_told_the_replica_that_the_direct_path_takes(spread: Bench) -> None:
    for talk in TALKS[:10]:
        direct = ask(spread, talk)
        assert ask(spread, talk, path="/api/chat") == "adapter"
        assert spread.adapter.seen[-1].headers["X-Migrate-Engine"] == direct
        assert spread.adapter.seen[-1].headers["X-Migrate-Route"] == SPREAD


def test_a_client_cannot_choose_a_replica(spread: Bench) -> None:
    at = home(spread)
    forged = dict.fromkeys(("X-Migrate-Engine", "X-Migrate-Replica", "X-Migrate-Route"), min(others(spread, at)))
    answer = spread.post("/v1/chat/completions", chat(model=SPREAD), headers=forged)
    assert answer.json()["from"] == at.name
    spread.post("/api/chat", chat(model=SPREAD), headers=forged)
    told = spread.adapter.seen[-1].headers
    assert (told["X-Migrate-Engine"], told["X-Migrate-Route"]) == (at.name, SPREAD)
    spread.post("/api/chat", chat(model="else"), headers=forged)
    for fake in spread.fakes:
        assert all("X-Migrate-Replica" not in one.headers for one in fake.seen)


@pytest.mark.parametrize("how", ["refused", "drop", "500", "503"])
@pytest.mark.parametrize("model", [SPREAD, SPREAD_FIXED])
def test_another_replica_answers_for_one_that_fails(spread: Bench, model: str, how: str) -> None:
    at = home(spread)
    if how == "refused":
        at.stop()
    else:
        at.behave = drop if how == "drop" else status(int(how))
    spread.nginx.forget_records()
    assert ask(spread, model=model) in others(spread, at)
    assert not spread.ollama.seen
    record = spread.nginx.record()
    assert (record["side"], record["engine"], record["failover"], record["outcome"]) == (
        "vllm", "two", False, "complete",
    )  # fmt: skip
    assert record["replica"] in others(spread, at)
    assert spread.nginx.status()["live"]["by_route"][model] == {"ollama": 0, "vllm": 0}
    assert all(one["live"] == 0 for one in seen(spread).values())


@pytest.mark.parametrize("code", [500, 502])
@pytest.mark.parametrize(
    ("model", "path"), [(SPREAD, "/api/chat"), (SPREAD_FIXED, "/api/chat"), (SPREAD_EMBED, "/api/embed")]
)
def test_the_adapter_is_sent_to_another_replica(spread: Bench, model: str, path: str, code: int) -> None:
    tried: list[str] = []

    async def one_is_dead(request, body):
        tried.append(request.headers["X-Migrate-Engine"])
        return await (status(code) if len(tried) == 1 else spread.adapter.plain)(request, body)

    spread.adapter.behave = one_is_dead
    assert ask(spread, model=model, path=path, input="x") == "adapter"
    assert len(set(tried)) == 2
    assert not spread.ollama.seen
    assert (seen(spread)[tried[0]]["out"] > 0) is (code == 502)


def test_an_absent_adapter_is_no_fault_of_a_replica(spread: Bench) -> None:
    spread.adapter.stop()
    assert ask(spread, path="/api/chat") == "ollama"
    assert not any(one["out"] or one["failed_lately"] for one in seen(spread).values())


def test_two_failures_and_ollama_answers_once(spread: Bench) -> None:
    for fake in spread.replicas.values():
        fake.behave = status(500)
    assert ask(spread) == "ollama"
    assert sum(len(fake.seen) for fake in spread.replicas.values()) == 2
    assert len(spread.ollama.seen) == 1
    record = spread.nginx.record()
    assert (record["side"], record["via"], record["failover"], record.get("replica")) == ("ollama", "ollama", True, None)


def test_without_a_way_back_the_last_replicas_own_error_is_shown(spread: Bench) -> None:
    for fake in spread.replicas.values():
        fake.behave = status(500, '{"error":"mine"}')
    answer = spread.post("/v1/chat/completions", chat(model=SPREAD_FIXED))
    assert (answer.status_code, answer.text) == (500, '{"error":"mine"}')
    assert not spread.ollama.seen
    for fake in spread.replicas.values():
        fake.stop()
    answer = spread.post("/v1/chat/completions", chat(model=SPREAD_FIXED))
    assert answer.status_code == 502
    assert "cannot be reached" in answer.json()["error"]["message"]


def test_without_a_way_back_and_another_replica_its_own_error_is_shown(spread: Bench) -> None:
    at = home(spread)
    for name in others(spread, at):
        out(spread, name, 60)
    at.behave = status(500, '{"error":"mine"}')
    answer = spread.post("/v1/chat/completions", chat(model=SPREAD_FIXED))
    assert (answer.status_code, answer.text) == (500, '{"error":"mine"}')


def test_all_gone_costs_the_next_requests_nothing(spread: Bench) -> None:
    for fake in spread.replicas.values():
        fake.stop()
    assert {ask(spread, talk) for talk in TALKS[:12]} == {"ollama"}
    assert all(one["out"] > 0 for one in seen(spread).values())
    spread.nginx.forget_records()
    assert ask(spread) == "ollama"
    assert spread.nginx.record()["upstream"].count(":") == 1


def test_a_replica_that_went_away_is_asked_again(spread: Bench) -> None:
    at = home(spread)
    at.stop()
    assert ask(spread) in others(spread, at)
    at.start()
    wait_for(lambda: ask(spread) == at.name)


def test_one_that_only_fails_is_spared_until_it_has_had_time(spread: Bench) -> None:
    at = home(spread)
    at.behave = status(500)
    for _ in range(6):
        assert ask(spread) in others(spread, at)
    assert len(at.seen) == 1 + 3
    assert seen(spread)[at.name]["failing"]
    assert seen(spread)[at.name]["failed"] >= 3


def test_a_400_is_no_failure_of_a_replica(spread: Bench) -> None:
    at = home(spread)
    at.behave = status(400)
    assert ask(spread) == "adapter"
    assert spread.adapter.seen[-1].headers["X-Migrate-Engine"] == at.name
    assert seen(spread)[at.name]["failed_lately"] == 0


def test_a_hung_replica_gets_nothing_once_it_is_taken_out_and_its_talks_back_afterwards(spread: Bench) -> None:
    at = home(spread)
    at.behave = hang
    with pytest.raises(httpx.ReadTimeout):
        spread.post("/v1/chat/completions", chat(model=SPREAD), timeout=0.3)
    assert out(spread, at.name, 60).json() == {"replica": at.name, "seconds": 60}
    assert 59 < seen(spread)[at.name]["out"] <= 60
    assert seen(spread)[at.name]["by"] == "guard"
    held = len(at.seen)
    assert {ask(spread, talk) for talk in TALKS} == others(spread, at)
    assert len(at.seen) == held
    at.behave = None
    assert out(spread, at.name, 0).status_code == 200
    assert ask(spread) == at.name


def test_one_taken_out_comes_back_by_itself_and_a_failure_does_not_hurry_it(spread: Bench) -> None:
    at = home(spread)
    assert out(spread, at.name, 0.5).status_code == 200
    assert ask(spread) in others(spread, at)
    wait_for(lambda: ask(spread) == at.name)


@pytest.mark.parametrize(
    ("name", "seconds"),
    [("three", 60), ("two-4", 60), ("", 60), (None, 60), (7, 60), ("two", -1), ("two", 601), ("two", None), ("two", "x")],
)
def test_only_engines_and_replicas_are_taken_out_and_not_for_ever(spread: Bench, name: object, seconds: object) -> None:
    answer = out(spread, name, seconds)
    assert answer.status_code == 400
    assert "replica" in answer.json()["error"]
    headers = {"Authorization": "Bearer no"}
    url = f"{spread.nginx.control}/control/replica"
    assert httpx.post(url, json={"replica": "two", "seconds": 9}, headers=headers).status_code == 401
    assert all(one["out"] == 0 for one in seen(spread).values())


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat", "/health"])
def test_a_check_asks_the_replica_that_it_names_even_one_taken_out(spread: Bench, path: str) -> None:
    for name in REPLICAS:
        out(spread, name, 60)
        headers = {"Authorization": f"Bearer {TOKEN}", "X-Migrate-Replica": name}
        method, body = ("GET", None) if path == "/health" else ("POST", chat(model=SPREAD))
        answer = httpx.request(method, f"{spread.nginx.control}/side/vllm{path}", json=body, headers=headers)
        told = spread.adapter.seen[-1].headers["X-Migrate-Engine"] if path == "/api/chat" else answer.json()["from"]
        assert told == name


def test_a_forced_side_shows_a_replicas_error(spread: Bench) -> None:
    spread.replicas["two-2"].behave = status(500, '{"error":"mine"}')
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Migrate-Replica": "two-2"}
    url = f"{spread.nginx.control}/side/vllm/v1/chat/completions"
    answer = httpx.post(url, json=chat(model=SPREAD), headers=headers)
    assert (answer.status_code, answer.text) == (500, '{"error":"mine"}')


def test_requests_are_counted_by_route_side_and_replica(spread: Bench) -> None:
    def counted() -> dict[str, int]:
        return {name: one["counts"].get(SPREAD, {}).get("complete", 0) for name, one in seen(spread).items()}

    before = counted()
    found = Counter(ask(spread, talk) for talk in TALKS)
    spread.nginx.record(len(TALKS))
    assert {name: after - before[name] for name, after in counted().items()} == dict(found)
    logged = Counter(record["replica"] for record in spread.nginx.records())
    assert logged == found


def test_many_that_begin_alike_do_not_fill_one_replica(spread: Bench) -> None:
    gate = threading.Event()
    parts = sse({"choices": [1]}, {"choices": [2]}, "[DONE]")
    for fake in spread.replicas.values():
        fake.behave = pieces(parts, SSE, gate=gate)
    with ThreadPoolExecutor(60) as pool:
        waiting = [pool.submit(spread.post, "/v1/chat/completions", chat(model=SPREAD, stream=True)) for _ in range(60)]
        wait_for(lambda: sum(one["live"] for one in seen(spread).values()) == 60)
        live = {name: one["live"] for name, one in seen(spread).items()}
        gate.set()
        assert all(one.result(30).content == b"".join(parts) for one in waiting)
    assert max(live.values()) <= 45, live  # alone it would have had 60
    wait_for(lambda: all(one["live"] == 0 for one in seen(spread).values()))


def test_no_request_is_lost_when_replicas_come_and_go_under_load(spread: Bench) -> None:
    over = threading.Event()

    def disturb() -> None:
        for name in REPLICAS:
            spread.replicas[name].stop()
            over.wait(0.5)
            spread.replicas[name].start()
            over.wait(1.2)  # long enough to be asked again
        over.set()

    def client(which: int) -> list[str]:
        answers = []
        with httpx.Client(timeout=30) as http:
            while not over.is_set():
                talk = [{"role": "user", "content": f"{which} {len(answers)}"}]
                answer = http.post(f"{spread.nginx.public}/v1/chat/completions", json=chat(model=SPREAD, messages=talk))
                answers.append(answer.raise_for_status().json()["from"])
        return answers

    with ThreadPoolExecutor(9) as pool:
        disturber = pool.submit(disturb)
        answers = Counter(who for told in pool.map(client, range(8)) for who in told)
        disturber.result()
    spread.nginx.record(sum(answers.values()))
    records = spread.nginx.records()
    assert sum(answers.values()) == len(records)
    assert {record["outcome"] for record in records} == {"complete"}
    assert Counter(record.get("replica") or "ollama" for record in records) == answers
    assert set(REPLICAS) <= set(answers)
    assert answers["ollama"] == 0, "one at a time was gone: another replica was there"


def test_a_replica_that_dies_in_a_stream_is_no_second_answer(spread: Bench) -> None:
    parts = sse({"choices": [1]}, {"choices": [2]})
    at = home(spread)
    at.behave = pieces(parts, SSE, die=True)
    got = b""
    body = chat(model=SPREAD, stream=True)
    with (
        suppress(httpx.RemoteProtocolError),
        httpx.stream("POST", f"{spread.nginx.public}/v1/chat/completions", json=body, timeout=30) as answer,
    ):
        for chunk in answer.iter_raw():
            got += chunk
    assert got.startswith(b"".join(parts))
    assert b'"error"' in got[len(b"".join(parts)) :]
    assert spread.nginx.record(2)["outcome"] == "truncated"
    assert not spread.ollama.seen
    assert sum(len(fake.seen) for fake in spread.replicas.values()) == 2


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)

