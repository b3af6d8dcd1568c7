"""The preloader: which models it loads, how, and what it says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from orchestrator.adapter import preload
from orchestrator.adapter.preload import Model
from orchestrator.adapter.watched import Watched
from orchestrator.errors import UsageError

CHAT = Model("Llama3.1:8B", {"num_ctx": 8192})
EMBED = Model("nomic", {}, "embedding")
NOW = 1_795_224_000.0  # in 2026


def entry(name: str, expires: str = "2319-03-03T01:23:20Z", vram: int = 10) -> dict[str, Any]:
    return {"name": name, "size": 10, "size_vram": vram, "expires_at": expires}


def test_requests_that_load_generate_nothing() -> None:
    assert preload.request_for(CHAT) == (
        "/api/generate",
        {"model": "Llama3.1:8B", "keep_alive": -1, "options": {"num_ctx": 8192}},
    )
    path, body = preload.request_for(EMBED)
    assert (path, body["keep_alive"]) == ("/api/embed", -1)


def test_missing_are_those_not_loaded_for_ever() -> None:
    both = (CHAT, EMBED)
    assert preload.missing(both, [], NOW) == [CHAT, EMBED]
    assert preload.missing(both, [entry("llama3.1:8b"), entry("nomic:latest")], NOW) == []
    assert preload.missing(both, [entry("llama3.1:8b", "2026-11-21T01:25:51+01:00")], NOW) == [CHAT, EMBED]


def test_spill_is_told_for_pinned_models_only() -> None:
    running = [entry("llama3.1:8b", vram=4), entry("other:latest", vram=0)]
    assert preload.spilled((CHAT, EMBED), running) == {"llama3.1:8b": (10, 4)}


class Ollama:
    """Loads what it is asked to load; `vram` is what arrives on the GPU."""

    def __init__(self) -> None:
        self.models: list[dict[str, Any]] = []
        self.loads: list[str] = []
        self.vram = 10

    async def ps(self, _: web.Request) -> web.Response:
        return web.json_response({"models": self.models})

    async def load(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.loads.append(f"{request.path} {body['model']}")
        if body["model"] == "broken":
            return web.json_response({"error": "no such model"}, status=404)
        self.models.append(entry(body["model"].lower(), vram=self.vram))
        return web.json_response({"done": True})


def rounds(server: Ollama, models: tuple[Model, ...], count: int) -> list[bool]:
    async def go() -> list[bool]:
        app = web.Application()
        app.router.add_get("/api/ps", server.ps)
        app.router.add_post("/api/{what}", server.load)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            async with aiohttp.ClientSession() as session:
                keeper = preload.Preloader(preload.Settings(url, models), session)
                return [await keeper.round() for _ in range(count)]
        finally:
            await runner.cleanup()

    return asyncio.run(go())


def test_models_are_loaded_once_and_again_when_they_are_gone() -> None:
    server = Ollama()
    assert rounds(server, (CHAT, EMBED), 2) == [True, True]
    assert server.loads == ["/api/generate Llama3.1:8B", "/api/embed nomic"]
    server.models.clear()
    rounds(server, (CHAT,), 1)
    assert server.loads[2:] == ["/api/generate Llama3.1:8B"]


def test_spill_and_failure_are_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    server = Ollama()
    server.vram = 3
    rounds(server, (CHAT,), 3)
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    spills = [event for event in events if event["event"] == "spill"]
    assert [(event["model"], event["size"], event["size_vram"]) for event in spills] == [("llama3.1:8b", 10, 3)]
    assert rounds(server, (Model("broken", {}),), 2) == [False, False]
    failures = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [event["ok"] for event in failures] == [False]
    assert "broken: HTTP 404" in failures[0]["reason"]


def test_ollama_that_is_away_is_not_fatal() -> None:
    async def go() -> bool:
        async with aiohttp.ClientSession() as session:
            return await preload.Preloader(preload.Settings("http://127.0.0.1:9", (CHAT,)), session).round()

    assert asyncio.run(go()) is False


async def until(there: Callable[[], bool]) -> None:
    while not there():      # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.01)


def test_a_model_that_the_file_names_later_is_looked_after_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.json"
    asked: list[list[str]] = []

    async def round_(keeper: preload.Preloader) -> bool:
        asked.append([model.name for model in keeper._settings.models])
        return True

    def names(*models: str) -> None:
        config = {"ollama": "http://o", "interval_s": 0.01, "models": [{"name": name} for name in models]}
        path.write_text(json.dumps(config))

    async def go() -> None:
        stop = asyncio.Event()
        names("a")
        loop = asyncio.create_task(preload.run(Watched(path, preload.load), tmp_path / "state.json", stop))
        await until(lambda: ["a"] in asked)
        names("a", "b")
        await until(lambda: ["a", "b"] in asked)
        stop.set()
        await loop

    monkeypatch.setattr(preload.Preloader, "round", round_)
    asyncio.run(go())


def test_bad_configuration_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"models": [1]}')
    with pytest.raises(UsageError, match="preload configuration"):
        preload.load(tmp_path / "c.json")
