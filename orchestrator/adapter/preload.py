"""`python -m orchestrator.adapter.preload`: keeps the pinned models loaded in the stack's Ollama.

A pinned model keeps its memory, so that an engine that starts later measures what is really left.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from orchestrator.adapter.alive import looped, write_state
from orchestrator.adapter.config import canonical
from orchestrator.adapter.respond import log
from orchestrator.adapter.watched import Watched
from orchestrator.adapter.wire import JSON
from orchestrator.errors import MigrateError, UsageError

DEFAULT = "/etc/preload/config.json"
STATE = "/tmp/preload.json"  # noqa: S108  (inside the container, for its own health check)
LOOK_TIMEOUT_S = 10.0
LOAD_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Model:
    """A model to keep loaded, with the options that decide its footprint."""

    name: str
    options: JSON
    kind: str = "generate"


@dataclass(frozen=True)
class Settings:
    """What the preloader is told; times in seconds."""

    ollama: str
    models: tuple[Model, ...]
    interval_s: float = 5.0


def load(path: Path) -> Settings:
    """Read the configuration; raises UsageError when it is missing or not valid."""
    try:
        data = json.loads(path.read_text())
        models = tuple(
            Model(entry["name"], entry.get("options") or {}, entry.get("kind", "generate")) for entry in data["models"]
        )
        return Settings(data["ollama"].rstrip("/"), models, float(data.get("interval_s", 5.0)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"preload configuration {path}: {type(error).__name__}: {error}") from error


def request_for(model: Model) -> tuple[str, JSON]:
    """Return path and body of the request that loads a model for ever without generating anything."""
    body: JSON = {"model": model.name, "keep_alive": -1}
    if model.options:
        body["options"] = model.options
    if model.kind == "embedding":
        return "/api/embed", {**body, "input": "ping"}
    return "/api/generate", body


def missing(models: tuple[Model, ...], running: list[JSON], now: float) -> list[Model]:
    """Return the models that are not loaded, or that will be unloaded in the foreseeable future.

    A model that is kept for ever expires in the year 2318 or so. `now` is in epoch seconds.
    """
    far = time.gmtime(now).tm_year + 2
    pinned = {canonical(str(entry["name"])) for entry in running if _year(entry) >= far}
    return [model for model in models if canonical(model.name) not in pinned]


def spilled(models: tuple[Model, ...], running: list[JSON]) -> dict[str, tuple[int, int]]:
    """Return, by name, size and size in VRAM of the pinned models that are partly in main memory."""
    wanted = {canonical(model.name) for model in models}
    return {
        str(entry["name"]): (int(entry["size"]), int(entry["size_vram"]))
        for entry in running
        if canonical(str(entry["name"])) in wanted and int(entry["size_vram"]) < int(entry["size"])
    }


def _year(entry: JSON) -> int:
    text = str(entry.get("expires_at", ""))[:4]
    return int(text) if text.isdigit() else 0


class Preloader:
    """The loop; says each change once."""

    def __init__(self, settings: Settings, session: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._session = session
        self._said: dict[str, object] = {}

    def follow(self, settings: Settings) -> None:
        """Go on with other settings."""
        self._settings = settings

    async def round(self) -> bool:
        """Look and load what is missing; return True when everything pinned is loaded."""
        try:
            running = await self._running()
            for model in missing(self._settings.models, running, time.time()):
                await self._load(model)
                running = await self._running()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self._say("ollama", event="ollama", ok=False, reason=f"{type(error).__name__}: {error}")
            return False
        self._say("ollama", event="ollama", ok=True)
        found = spilled(self._settings.models, running)
        for name, (size, vram) in found.items():
            self._say(name, event="spill", model=name, size=size, size_vram=vram)
        for name in [key for key in self._said if key != "ollama" and key not in found]:
            del self._said[name]
        return not missing(self._settings.models, running, time.time())

    async def _running(self) -> list[JSON]:
        limit = aiohttp.ClientTimeout(total=LOOK_TIMEOUT_S)
        async with self._session.get(f"{self._settings.ollama}/api/ps", timeout=limit) as answer:
            answer.raise_for_status()
            data = await answer.json(content_type=None)
        return list(data.get("models") or [])

    async def _load(self, model: Model) -> None:
        path, body = request_for(model)
        limit = aiohttp.ClientTimeout(total=LOAD_TIMEOUT_S)
        started = time.monotonic()
        async with self._session.post(self._settings.ollama + path, json=body, timeout=limit) as answer:
            text = await answer.text()
        took = round(time.monotonic() - started, 1)
        if answer.status != 200:
            raise ValueError(f"{model.name}: HTTP {answer.status} {text[:200]}")
        log(event="loaded", model=model.name, took_s=took)

    def _say(self, key: str, **fields: object) -> None:
        if self._said.get(key) != fields:
            log(**fields)
        self._said[key] = fields


async def run(watched: Watched[Settings], state: Path, stop: asyncio.Event) -> None:
    """Look every interval until told to stop."""
    async with aiohttp.ClientSession() as session:
        preloader = Preloader(watched.current, session)
        while not stop.is_set():
            settings = watched.check()
            preloader.follow(settings)
            if await preloader.round():
                write_state(state, {"at": time.time()})
            try:
                await asyncio.wait_for(stop.wait(), settings.interval_s)
            except TimeoutError:
                continue


async def _main(watched: Watched[Settings], state: Path) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    log(event="start", models=[model.name for model in watched.current.models])
    await run(watched, state, stop)


def main() -> int:
    """Keep the models loaded until SIGTERM; `--check` tells whether all of them are."""
    parser = argparse.ArgumentParser(prog="preload", description=__doc__)
    parser.add_argument("--config", type=Path, default=Path(os.environ.get("PRELOAD_CONFIG", DEFAULT)))
    parser.add_argument("--state", type=Path, default=Path(STATE))
    parser.add_argument("--check", action="store_true", help="tell whether all models are loaded")
    given = parser.parse_args()
    try:
        watched = Watched(given.config, load)
    except MigrateError as error:
        sys.stderr.write(f"{error.message}\n")
        return int(error.exit_code)
    if given.check:
        return looped(given.state, 2 * watched.current.interval_s + LOOK_TIMEOUT_S)
    asyncio.run(_main(watched, given.state))
    return 0


if __name__ == "__main__":
    sys.exit(main())
