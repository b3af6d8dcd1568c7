"""A share of what Ollama answers is asked of vLLM as well: in the background, bounded, and no client's business."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import httpx
import pytest
from aiohttp import web
from gateway_bench import Bench, chat
from gateway_fakes import NDJSON, SSE, Fake, Loop, drop, hang, lines, pieces, sse, status
from gateway_harness import ROUTE, SHADOWED, TOKEN

from orchestrator.adapter.ring import Ring
from orchestrator.adapter.shadow import Settings, Shadow, application

pytestmark = pytest.mark.docker

REPLY = {"model": "m", "message": {"role": "assistant", "content": "hello there"}, "done": True}


class SideCar:
    """The real side-car, in this process, at the address that the gateway knows."""

    def __init__(self, bench: Bench, loop: Loop, folder: Path, **changes) -> None:
        self.settings = Settings(bench.nginx.control, TOKEN, folder, {SHADOWED: 50}, **{"per_minute": 60_000} | changes)
        self.loop, self.port = loop, bench.nginx.ports.shadow
        self.ring = Ring(folder, self.settings.keep)
        loop.call(self._start())

    async def _start(self) -> None:
        self.session = aiohttp.ClientSession()
        self.shadow = Shadow(self.settings, self.session, self.ring)
        self.runner = web.AppRunner(application(self.shadow), access_log=None)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port).start()

    def close(self) -> None:
        async def end() -> None:
            await self.runner.cleanup()
            await self.session.close()

        self.loop.call(end())

    def records(self) -> list[dict]:
        return [json.loads(path.read_text()) for path in sorted(self.settings.folder.glob("*/*.json"))]


@pytest.fixture
def side_car(bench: Bench, loop: Loop, tmp_path: Path) -> Iterator[SideCar]:
    found = SideCar(bench, loop, tmp_path)
    yield found
    found.close()


@pytest.fixture
def dumb(bench: Bench, loop: Loop) -> Iterator[Fake]:
    """A side-car that answers as it is told."""
    fake = Fake("shadow", bench.nginx.ports.shadow, loop)
    yield fake
    fake.stop()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def counts(bench: Bench) -> dict[str, int]:
    return bench.nginx.status()["shadow"][SHADOWED]


def since(bench: Bench, before: dict[str, int]) -> dict[str, int]:
    return {word: n - before[word] for word, n in counts(bench).items() if word != "percent"}


def settled(bench: Bench, before: dict[str, int], sampled: int) -> dict[str, int]:
    until(lambda: sum(since(bench, before)[word] for word in ("sent", "dropped")) == sampled)
    return since(bench, before)


@pytest.mark.parametrize(
    ("path", "answered"),
    [
        ("/v1/chat/completions", ("engine", sse({"choices": [{"delta": {"content": "hello "}}]},
                                                {"choices": [{"delta": {"content": "there"}}]}, "[DONE]"), SSE)),
        ("/api/chat", ("adapter", lines({"message": {"content": "hello "}, "done": False},
                                        {"message": {"content": "there"}, "done": True}), NDJSON)),
        ("/api/generate", ("adapter", lines({"response": "hello there", "done": True}), NDJSON)),
    ],
    ids=["openai", "chat", "generate"],
)  # fmt: skip
def test_both_answers_are_kept_and_the_client_sees_ollama_alone(
    bench: Bench, side_car: SideCar, path: str, answered
) -> None:
    who, parts, kind = answered
    bench.ollama.behave = pieces(parts, kind)
    vllm = next(fake for fake in bench.fakes if fake.name == who)
    vllm.behave = pieces([part.replace(b"there", b"world") for part in parts], kind)
    body = chat(model=SHADOWED, stream=True)
    answer = bench.post(path, body)
    assert answer.content == b"".join(parts)
    until(lambda: len(side_car.records()) == 1)
    record = side_car.records()[0]
    assert json.loads(record["request"]) == body
    assert (record["ollama"]["text"], record["vllm"]["text"]) == ("hello there", "hello world")
    assert 0.5 < record["likeness"] < 1
    assert record["vllm"]["status"] == 200
    assert record["ollama"]["total_ms"] >= record["ollama"]["ttft_ms"] >= 0
    assert record["vllm"]["ttft_ms"] is not None
    assert json.loads(vllm.seen[0].body) == body
    assert "Authorization" not in vllm.seen[0].headers
    records = [one for one in bench.nginx.records() if one["route"] == SHADOWED]
    assert [(one["side"], one["forced"]) for one in records] == [("ollama", False), ("vllm", True)]
    for file in side_car.settings.folder.rglob("*"):
        assert file.stat().st_mode & 0o077 == 0
    assert "hello" not in "".join(side_car.ring.lines())
    assert "hello there" in side_car.ring.show(next(side_car.settings.folder.glob("*/*.json")).stem)


def test_a_route_without_it_and_a_request_that_vllm_answers_are_no_samples(bench: Bench, side_car: SideCar) -> None:
    before = counts(bench)
    bench.chat()
    bench.post("/api/embed", {"model": SHADOWED, "input": "x"})
    bench.post("/api/show", {"model": SHADOWED})
    bench.nginx.weights({SHADOWED: 100})
    assert bench.chat(model=SHADOWED).json()["from"] == "engine"
    bench.engine.behave = status(503)
    assert bench.chat(model=SHADOWED).json()["from"] == "ollama"   # failed over: vLLM was asked already
    bench.nginx.record(5)
    assert since(bench, before) == {"sampled": 0, "sent": 0, "dropped": 0}
    assert not side_car.records()


@pytest.mark.parametrize("behave", [None, drop, hang, status(503), status(500)], ids=["away", "drops", "hangs", "full", "fails"])
def test_a_dead_or_slow_side_car_costs_the_client_nothing(bench: Bench, dumb: Fake, behave) -> None:
    """The answer and the connection's next request come while the side-car still says nothing."""
    if behave:
        dumb.behave = behave
        dumb.start()
    before = counts(bench)
    bench.ollama.behave = pieces([json.dumps(REPLY).encode()], "application/json")
    began = time.monotonic()
    for _ in range(30):
        assert bench.chat(model=SHADOWED).json() == REPLY
    spent = time.monotonic() - began
    outcome = settled(bench, before, 30)
    assert outcome == {"sampled": 30, "sent": 0, "dropped": 30}
    slowest = max(one["total_ms"] for one in bench.nginx.records())
    assert slowest < 450, f"a client waited {slowest} ms, {spent} s in all"   # below any of the side-car's time limits


def test_what_is_too_large_is_dropped_and_counted(bench: Bench, side_car: SideCar) -> None:
    before = counts(bench)
    assert bench.chat(model=SHADOWED, padding="x" * 400_000).status_code == 200
    assert bench.chat(model=SHADOWED, padding="x" * 9_000_000).status_code == 200   # in a file of nginx's
    bench.ollama.behave = pieces([b"y" * 100_000] * 5, "application/json")
    assert len(bench.chat(model=SHADOWED).content) == 500_000
    assert settled(bench, before, 3) == {"sampled": 3, "sent": 0, "dropped": 3}
    bench.ollama.behave = status(404)
    assert bench.chat(model=SHADOWED).status_code == 404
    bench.ollama.behave = pieces(sse({"choices": [1]}), SSE, die=True)
    with pytest.raises(httpx.RemoteProtocolError):
        bench.chat(model=SHADOWED, stream=True)
    assert settled(bench, before, 5)["dropped"] == 5
    assert not side_car.records()


def test_a_full_queue_says_no(bench: Bench, loop: Loop, tmp_path: Path) -> None:
    bench.engine.behave = hang
    side_car = SideCar(bench, loop, tmp_path, queue_most=2)
    try:
        before = counts(bench)
        bench.chat(model=SHADOWED)
        until(lambda: side_car.shadow.counts.asked == 1)
        for n in range(5):
            bench.chat(model=SHADOWED)
            settled(bench, before, n + 2)
        assert since(bench, before) == {"sampled": 6, "sent": 3, "dropped": 3}
        assert side_car.shadow.counts.refused == 3
    finally:
        side_car.close()


def test_the_newest_are_kept(bench: Bench, loop: Loop, tmp_path: Path) -> None:
    side_car = SideCar(bench, loop, tmp_path)
    side_car.ring.keep[SHADOWED] = 3
    try:
        for n in range(6):
            bench.chat(model=SHADOWED, seed=n)
            until(lambda n=n: side_car.shadow.counts.asked == n + 1)
        until(lambda: [json.loads(one["request"])["seed"] for one in side_car.records()] == [3, 4, 5])
    finally:
        side_car.close()


def test_odd_samples_are_refused(bench: Bench, side_car: SideCar) -> None:
    url = f"http://127.0.0.1:{side_car.port}/shadow"
    meta = json.dumps({"route": SHADOWED, "uri": "/api/chat"})

    async def ask() -> list[int]:
        found = []
        async with aiohttp.ClientSession() as session:
            for headers, body in (
                ({}, b"x"), ({"X-Shadow": meta}, b"x"), ({"X-Shadow": "{", "X-Request-Length": "1"}, b"x"),
                ({"X-Shadow": "[]", "X-Request-Length": "1"}, b"x"), ({"X-Shadow": meta, "X-Request-Length": "9"}, b"x"),
                ({"X-Shadow": meta, "X-Request-Length": "-1"}, b"x"),
                ({"X-Shadow": meta.replace(SHADOWED, ROUTE), "X-Request-Length": "1"}, b"x"),
                ({"X-Shadow": meta.replace("/api", "http://api"), "X-Request-Length": "1"}, b"x"),
                ({"X-Shadow": meta, "X-Request-Length": "1"}, b"x" * 600_000),
            ):  # fmt: skip
                async with session.post(url, data=body, headers=headers) as answer:
                    found.append(answer.status)
        return found

    assert side_car.loop.call(ask()) == [400] * 8 + [413]
    assert not bench.engine.seen
    assert not bench.adapter.seen


def test_an_unwritable_disk_loses_the_comparison_alone(bench: Bench, loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    side_car = SideCar(bench, loop, tmp_path / "file" / "no folder")
    try:
        for n in range(2):
            assert bench.chat(model=SHADOWED).status_code == 200
            until(lambda n=n: side_car.shadow.counts.lost == n + 1)
    finally:
        side_car.close()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_nothing_runs_on_when_it_ends(bench: Bench, loop: Loop, tmp_path: Path) -> None:
    SideCar(bench, loop, tmp_path).close()

    async def tasks() -> int:
        return len([task for task in asyncio.all_tasks() if "work" in repr(task.get_coro())])

    assert loop.call(tasks()) == 0
