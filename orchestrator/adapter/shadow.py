"""`python -m orchestrator.adapter.shadow`: asks vLLM what Ollama was asked, and keeps both answers to compare.

The gateway hands it samples after the client has its answer. It acknowledges at once, asks one after the other in
the background, and is bounded in everything: what is too much is refused, and the gateway counts it. Prompts and
answers are kept here and nowhere else: files that only their owner can read, the newest of each route.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from orchestrator.adapter.alive import answers
from orchestrator.adapter.respond import log
from orchestrator.adapter.ring import Ring, compared
from orchestrator.adapter.watched import Watched
from orchestrator.errors import MigrateError, UsageError

DEFAULT = "/etc/shadowing/config.json"
PORT = 8090
LARGEST = 2 * 262144            # bytes of a request and its answer, as the gateway cuts them off
ANSWER_MOST = 262144            # bytes of vLLM's answer that are kept
CHECK_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Settings:
    """What the side-car is told: `keep` is the number of comparisons per route; times in seconds."""

    gateway: str
    token: str
    folder: Path
    keep: dict[str, int]
    queue_most: int = 32
    per_minute: float = 60.0
    timeout_s: float = 300.0


@dataclass(frozen=True)
class Sample:
    """A request, with what Ollama answered and how long it took."""

    meta: dict[str, Any]
    request: bytes
    answer: bytes


@dataclass
class Counts:
    """Since the start; no text of any request."""

    taken: int = 0
    refused: int = 0
    asked: int = 0
    failed: int = 0
    lost: int = 0           # answers that the disk did not take


def load(path: Path) -> Settings:
    """Read the configuration and the token; raises UsageError when one of them is missing or not valid."""
    try:
        data = json.loads(path.read_text())
        keep = {str(route): int(count) for route, count in data["keep"].items()}
        token = Path(data["token_file"]).read_text().strip()
        known = {key: data[key] for key in ("queue_most", "per_minute", "timeout_s") if key in data}
        settings = Settings(data["gateway"].rstrip("/"), token, Path(data["folder"]), keep, **known)
        odd = [value for value in (*known.values(), *keep.values()) if not value > 0]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"shadow configuration {path}: {type(error).__name__}: {error}") from error
    if odd:
        raise UsageError(f"shadow configuration {path}: {odd[0]} should be above 0")
    return settings


@dataclass
class Shadow:
    """The queue and whoever works it off."""

    settings: Settings
    session: aiohttp.ClientSession
    ring: Ring
    follow: Callable[[], Settings] | None = None    # the configuration as it is now
    counts: Counts = field(default_factory=Counts)
    waiting: deque[Sample] = field(default_factory=deque)
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        """POST /shadow: acknowledge at once, or say no."""
        status = await self._take(request)
        if status == 202:
            self.counts.taken += 1
        else:
            self.counts.refused += 1
        return web.Response(status=status)

    async def _take(self, request: web.Request) -> int:
        if self.follow:
            self.settings = self.follow()
            self.ring.keep = self.settings.keep
        if (request.content_length or 0) > LARGEST:
            return 413
        if len(self.waiting) >= self.settings.queue_most:
            return 503
        body = await request.read()
        try:
            meta = json.loads(request.headers["X-Shadow"])
            split = int(request.headers["X-Request-Length"])
            sample = Sample(meta, body[:split], body[split:])
            known = meta["route"] in self.settings.keep and str(meta["uri"]).startswith("/")
        except (KeyError, ValueError, TypeError):
            return 400
        if not known or not 0 < split <= len(body):
            return 400
        self.waiting.append(sample)
        self._more.set()
        return 202

    async def status(self, _: web.Request) -> web.Response:
        """GET /status: numbers alone."""
        return web.json_response(vars(self.counts) | {"waiting": len(self.waiting)})

    async def work(self) -> None:
        """Ask vLLM one sample after the other, never faster than it is allowed to."""
        while True:
            while not self.waiting:
                self._more.clear()
                await self._more.wait()
            began = time.monotonic()
            sample = self.waiting.popleft()
            said = await self._ask(sample)
            try:
                await asyncio.to_thread(self._keep, sample, said)
            except OSError as error:
                self.counts.lost += 1
                log(event="shadow", ok=False, error=f"{type(error).__name__}: {error.strerror}")
            await asyncio.sleep(max(0.0, 60.0 / self.settings.per_minute - (time.monotonic() - began)))

    def _keep(self, sample: Sample, said: dict[str, Any]) -> None:
        self.ring.put(str(sample.meta["route"]), compared(sample.meta, sample.request, sample.answer, said))

    async def _ask(self, sample: Sample) -> dict[str, Any]:
        """Return vLLM's answer through the gateway's door for checks, which no client's weight concerns."""
        began = time.monotonic()
        first: float | None = None
        kept = bytearray()
        size = 0
        headers = {"Authorization": f"Bearer {self.settings.token}", "Content-Type": "application/json"}
        url = f"{self.settings.gateway}/side/vllm{sample.meta['uri']}"
        self.counts.asked += 1
        try:
            limit = aiohttp.ClientTimeout(total=self.settings.timeout_s)
            async with self.session.post(url, data=sample.request, headers=headers, timeout=limit) as answer:
                async for chunk in answer.content.iter_any():
                    first = first or time.monotonic()
                    size += len(chunk)
                    kept += chunk[: max(0, ANSWER_MOST - len(kept))]
                said: dict[str, Any] = {"status": answer.status}
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            said = {"status": 0, "error": type(error).__name__}
        if said["status"] != 200:
            self.counts.failed += 1
        ended = time.monotonic()
        return said | {
            "body": bytes(kept), "cut": size > len(kept), "total_ms": round((ended - began) * 1000, 3),
            "ttft_ms": round((first - began) * 1000, 3) if first else None,
        }  # fmt: skip


def application(shadow: Shadow) -> web.Application:
    """Return the side-car's web application; its worker runs as long as it does."""
    app = web.Application(client_max_size=LARGEST)
    app.router.add_post("/shadow", shadow.take)
    app.router.add_get("/status", shadow.status)

    async def working(_: web.Application) -> Any:
        task = asyncio.create_task(shadow.work())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    app.cleanup_ctx.append(working)
    return app


async def serve(config: Path, port: int) -> None:
    """Run until told to end; what waits is dropped then."""
    stop = asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, stop.set)
    async with aiohttp.ClientSession(trust_env=False) as session:
        watched = Watched(config, load)
        settings = watched.get()
        shadow = Shadow(settings, session, Ring(settings.folder, settings.keep), watched.check)
        runner = web.AppRunner(application(shadow), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "0.0.0.0", port).start()   # the stack's own network, never published
        log(event="start", ok=True)
        await stop.wait()
        await runner.cleanup()


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


def main(argv: list[str] | None = None) -> int:
    """Run the side-car, or show what it has kept; return the exit status."""
    parser = argparse.ArgumentParser(description="Compare vLLM's answers with Ollama's in the background.")
    parser.add_argument("--config", type=Path, default=Path(os.environ.get("SHADOW_CONFIG", DEFAULT)))
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="whether it answers")
    what.add_argument("--list", action="store_true", help="one line per comparison, without any text")
    what.add_argument("--show", metavar="ID", help="one comparison with its prompt and both answers")
    what.add_argument("--json", action="store_true", help="a line of JSON per comparison, without any text")
    what.add_argument("--texts", metavar="N", type=int, help="the newest N as JSON, with prompts and answers")
    what.add_argument("--clear", action="store_true", help="remove everything that was kept")
    parser.add_argument("--route", default="", help="with --json and --texts: of this route alone")
    asked = parser.parse_args(argv)
    if asked.check:
        return answers("shadow", PORT, "/status", CHECK_TIMEOUT_S)
    try:
        settings = load(asked.config)
        ring = Ring(settings.folder, settings.keep)
        if asked.list:
            say("\n".join(ring.lines()) or "nothing was compared yet")
        elif asked.show:
            say(ring.show(asked.show))
        elif asked.json or asked.texts:
            for record in ring.records(max(0, asked.texts or 0), asked.route):
                say(json.dumps(record))
        elif asked.clear:
            say(f"removed: {ring.clear()}")
        else:
            asyncio.run(serve(asked.config, PORT))
    except MigrateError as error:
        sys.stderr.write(error.message + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
