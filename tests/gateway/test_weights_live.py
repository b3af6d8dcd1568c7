"""Weights of the real gateway under load, over crashes, full disks and files written by hand; streams over reloads."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import httpx
import pytest
from aiohttp import web
from gateway_bench import Bench, chat
from gateway_fakes import Fake, Loop
from gateway_harness import DRAWN, EMBED, FIXED, ROUTE, STICKY, TOKEN, Nginx, Ports, docker

from orchestrator.clients.gateway import Gateway
from orchestrator.errors import MigrateError

pytestmark = pytest.mark.docker

CHANGES, CLIENTS, STREAMS, RELOADS = 1000, 8, 200, 5
SIDES = {"ollama": "ollama", "engine": "vllm"}


@pytest.fixture
def door(bench: Bench) -> Iterator[Gateway]:
    with Gateway(bench.nginx.control, TOKEN) as client:
        yield client


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Nginx]:
    nginx = Nginx(tmp_path, Ports(21100))
    yield nginx
    nginx.remove()


@pytest.fixture
def upstreams(own: Nginx, loop: Loop) -> Iterator[dict[str, Fake]]:
    found = {"ollama": Fake("ollama", own.ports.ollama, loop), "engine": Fake("engine", own.ports.engine, loop)}
    for fake in found.values():
        fake.start()
    yield found
    for fake in found.values():
        fake.stop()


def numbered(n: int, model: str = ROUTE) -> dict:
    return chat(model=model, messages=[{"role": "user", "content": f"number {n}."}])


def numbers(*fakes: Fake) -> list[int]:
    return [int(seen.body.partition(b"number ")[2].partition(b".")[0]) for fake in fakes for seen in fake.seen]


def test_a_change_is_in_effect_for_the_next_request_of_every_worker(bench: Bench, door: Gateway) -> None:
    """Connections are spread over the workers, and stay with theirs."""
    url = f"{bench.nginx.public}/v1/chat/completions"
    with ThreadPoolExecutor(24) as pool:
        clients = [httpx.Client(timeout=30) for _ in range(24)]
        version = door.status().version
        for weight in (100, 0) * 15:
            version = door.set_weights({ROUTE: weight}, version, "test")
            answers = list(pool.map(lambda one: one.post(url, json=chat()).json()["from"], clients))
            assert set(answers) == {"engine" if weight else "ollama"}
        for client in clients:
            client.close()
    bench.nginx.record(24 * 30)
    assert len(docker("top", bench.nginx.container).splitlines()) >= 4   # a master and several workers


def test_a_thousand_changes_under_load_lose_and_double_nothing(bench: Bench, door: Gateway) -> None:
    over = threading.Event()
    number = itertools.count()

    def client(_: int) -> dict[int, str]:
        found = {}
        with httpx.Client(timeout=30) as http:
            while not over.is_set():
                n = next(number)
                answer = http.post(f"{bench.nginx.public}/v1/chat/completions", json=numbered(n))
                found[n] = answer.raise_for_status().json()["from"]
        return found

    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [pool.submit(client, n) for n in range(CLIENTS)]
        first = version = door.status().version
        try:
            for at in range(CHANGES):
                version = door.set_weights({ROUTE: (100, 0, 37.5, 99.9, 0.1)[at % 5], STICKY: at % 101}, version, "test")
        finally:
            over.set()
        answers = {n: who for one in running for n, who in one.result(60).items()}
    assert version == first + CHANGES
    assert len(answers) > CHANGES / 10
    asked = {who: Counter(numbers(fake)) for who, fake in (("ollama", bench.ollama), ("engine", bench.engine))}
    assert asked["ollama"] + asked["engine"] == Counter(answers.keys())
    assert all(asked[who][n] == 1 for n, who in answers.items())
    bench.nginx.record(len(answers))
    records = bench.nginx.records()
    assert Counter(record["side"] for record in records) == Counter(SIDES[who] for who in answers.values())
    assert {record["outcome"] for record in records} == {"complete"}
    assert all(first <= record["version"] <= version for record in records)
    assert json.loads((bench.nginx.state / "weights.json").read_text())["version"] == version


def test_what_was_acknowledged_survives_a_kill_at_any_moment(own: Nginx) -> None:
    own.start()
    chance = random.Random(4)
    version, weight = 0, 0.0
    for _ in range(4):
        stop = threading.Event()
        acknowledged = [(version, weight)]
        tried = [weight]

        def write(stop: threading.Event = stop, known: list = acknowledged, tried: list = tried) -> None:
            with Gateway(own.control, TOKEN) as door:
                while not stop.is_set():
                    tried.append(chance.randrange(1001) / 10)
                    try:
                        known.append((door.set_weights({ROUTE: tried[-1]}, known[-1][0], "test"), tried[-1]))
                    except MigrateError:
                        return

        writer = threading.Thread(target=write)
        writer.start()
        until(lambda known=acknowledged: len(known) > 30)
        docker("kill", "-s", "KILL", own.container)
        stop.set()
        writer.join(30)
        own.remove()
        own.start()
        with Gateway(own.control, TOKEN) as door:
            status = door.status()
        version, weight = status.version, status.weights[ROUTE]
        # What was on its way when it died may have been stored, with nobody left to acknowledge it.
        assert (version, weight) in (acknowledged[-1], (acknowledged[-1][0] + 1, tried[-1]))


def test_a_full_disk_refuses_to_raise_but_never_to_lower(own: Nginx, upstreams: dict[str, Fake]) -> None:
    own.start()
    with Gateway(own.control, TOKEN) as door:
        version = door.set_weights({ROUTE: 60, DRAWN: 50}, 0, "test")
        full = own.state / "weights.json.tmp"
        full.symlink_to("/dev/full")
        with pytest.raises(MigrateError) as caught:
            door.set_weights({ROUTE: 70}, version, "test")
        assert "could not be stored" in str(caught.value.evidence)
        assert (door.status().version, door.status().weights[ROUTE]) == (version, 60)
        with pytest.raises(MigrateError):
            door.lease("me", 60, {ROUTE: 0})
        assert door.status().lease is None
        assert door.set_weights({ROUTE: 0}, None, "guard") == version + 1
        assert door.status().weights[ROUTE] == 0
        assert own.ask("GET", "/control/status").json()["unsaved"]
        assert httpx.post(f"{own.public}/v1/chat/completions", json=chat()).json()["from"] == "ollama"
        full.unlink()
        assert door.set_weights({DRAWN: 40}, version + 1, "test") == version + 2
        assert "unsaved" not in own.ask("GET", "/control/status").json()
        stored = json.loads((own.state / "weights.json").read_text())
        assert stored["weights"] == {ROUTE: 0, DRAWN: 40}
    assert upstreams["ollama"].seen


def test_a_file_written_by_hand_cannot_say_what_no_command_could(own: Nginx, upstreams: dict[str, Fake]) -> None:
    weights = {EMBED: 50, ROUTE: 250, FIXED: "100", STICKY: 33.333, DRAWN: 12.5, "gone:latest": 40}
    odd = {"version": 7, "weights": weights, "lease": 5}
    (own.state / "weights.json").write_text(json.dumps(odd))
    own.start()
    with Gateway(own.control, TOKEN) as door:
        status = door.status()
        assert status.version == 7
        assert {name: weight for name, weight in status.weights.items() if weight} == {DRAWN: 12.5}
        assert status.lease is None
        for n in range(30):
            body = {"model": EMBED, "input": f"text {n}"}
            assert httpx.post(f"{own.public}/api/embed", json=body).json()["from"] == "ollama"
        assert "never split" in own.logs()
        assert door.set_weights({EMBED: 100}, 7, "test") == 8
    assert own.ask("GET", "/metrics").status_code == 200


@pytest.mark.parametrize("weight", [0, 100])
def test_an_embedding_route_answers_from_one_side_alone(bench: Bench, weight: float) -> None:
    bench.nginx.weights({EMBED: weight})
    paths = ("/api/embed", "/api/embeddings", "/v1/embeddings")
    seen = {bench.post(path, {"model": EMBED, "input": f"{n}", "prompt": f"{n}", "user": f"u{n}"}).json()["from"]
            for n in range(20) for path in paths}  # fmt: skip
    assert seen == ({"adapter"} if weight else {"ollama"})


def until(condition: Callable[[], bool]) -> None:
    end = threading.Event()
    for _ in range(6000):
        if condition():
            return
        end.wait(0.005)
    raise AssertionError


class Talker:
    """Says one token after the other until it is told to stop."""

    def __init__(self) -> None:
        self.over = threading.Event()

    async def behave(self, request: web.Request, _: bytes) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        for at in itertools.count():
            last = self.over.is_set()
            frame = "[DONE]" if last else json.dumps({"choices": [{"delta": {"content": f"{at} "}}]})
            await answer.write(f"data: {frame}\n\n".encode())
            if last:
                break
            await asyncio.sleep(0.1)
        await answer.write_eof()
        return answer


async def listen(session: aiohttp.ClientSession, url: str, body: dict) -> list[int]:
    """Return the numbers of the tokens that came, once the stream is whole."""
    async with session.post(url, json=body) as answer:
        text = (await answer.read()).decode()
    frames = [frame.removeprefix("data: ") for frame in text.split("\n\n") if frame]
    assert frames[-1] == "[DONE]"
    return [int(json.loads(frame)["choices"][0]["delta"]["content"]) for frame in frames[:-1]]


def test_no_reload_and_no_stop_cuts_a_stream_or_a_connection(own: Nginx, upstreams: dict[str, Fake], loop: Loop) -> None:
    own.start()
    talker = Talker()
    upstreams["engine"].behave = talker.behave
    url = f"{own.public}/v1/chat/completions"
    with Gateway(own.control, TOKEN) as door:
        door.set_weights({ROUTE: 100}, 0, "test")

        async def streams() -> list[list[int]]:
            limit = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(connector=limit) as session:
                asked = []
                for n in range(STREAMS):
                    asked.append(asyncio.create_task(listen(session, url, numbered(n) | {"stream": True})))
                    await asyncio.sleep(0.01)   # the fake's line is short
                return await asyncio.gather(*asked)

        running = asyncio.run_coroutine_threadsafe(streams(), loop.loop)
        until(lambda: door.status().live.by_route[ROUTE]["vllm"] == STREAMS)
        over = threading.Event()

        def keep_alive(_: int) -> int:
            """Requests on one connection, which the reloads must not close under it."""
            with httpx.Client(timeout=30) as http:
                for count in itertools.count():
                    if over.is_set():
                        return count
                    http.get(f"{own.public}/api/tags").raise_for_status()
            raise AssertionError

        with ThreadPoolExecutor(8) as pool:
            others = [pool.submit(keep_alive, n) for n in range(8)]
            for at in range(RELOADS):
                docker("kill", "-s", "HUP", own.container)
                door.set_weights({STICKY: at}, door.status().version, "test")
                until(lambda: door.status().live.by_route[ROUTE]["vllm"] == STREAMS)
            over.set()
            assert all(one.result(60) > 0 for one in others)
        docker("kill", "-s", "QUIT", own.container)
        talker.over.set()
        heard = running.result(60)
    assert len(heard) == STREAMS
    assert all(tokens == list(range(len(tokens))) and tokens for tokens in heard)
    assert docker("wait", own.container) == "0"
    streamed = [record for record in own.records() if record["model"] == ROUTE]
    assert Counter((record["side"], record["outcome"]) for record in streamed) == {("vllm", "complete"): STREAMS}
