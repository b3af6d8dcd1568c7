"""Upstreams that answer as a test tells them to, in a thread of their own."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

Behaviour = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Loop:
    """An event loop that runs in a thread until closed."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@dataclass
class Fake:
    """One upstream. `behave` answers; `seen` remembers; `left` tells that a client went away."""

    name: str
    port: int
    loop: Loop
    seen: list[Seen] = field(default_factory=list)
    behave: Behaviour | None = None
    left: threading.Event = field(default_factory=threading.Event)
    _runner: web.AppRunner | None = None

    def start(self) -> None:
        if self._runner is None:
            self.loop.call(self._start())

    def stop(self) -> None:
        self.loop.call(self._stop())

    def reset(self) -> None:
        self.seen.clear()
        self.behave = None
        self.left.clear()
        self.start()

    async def _start(self) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._answer)
        limits = {"max_line_size": 1 << 17, "max_field_size": 1 << 17}  # more than the gateway lets in
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1, **limits)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def _stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()
        self._runner = None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.seen.append(Seen(request.method, request.raw_path, dict(request.headers), body))
        try:
            return await (self.behave or self.plain)(request, body)
        except asyncio.CancelledError:
            self.left.set()
            raise

    async def plain(self, request: web.Request, body: bytes) -> web.StreamResponse:
        return web.json_response({"from": self.name, "bytes": len(body)})


def status(code: int, text: str = '{"error":"told to"}') -> Behaviour:
    async def behave(request: web.Request, body: bytes) -> web.StreamResponse:
        return web.Response(status=code, text=text, content_type="application/json")

    return behave


async def drop(request: web.Request, body: bytes) -> web.StreamResponse:
    """Close the connection instead of answering."""
    request.transport.abort()
    await asyncio.sleep(3600)
    raise AssertionError


async def hang(request: web.Request, body: bytes) -> web.StreamResponse:
    """Never answer."""
    await asyncio.sleep(3600)
    raise AssertionError


def pieces(
    parts: list[bytes], content_type: str, *, gate: threading.Event | None = None, die: bool = False
) -> Behaviour:
    """Stream `parts`; after the first wait for `gate`; `die` breaks off instead of ending."""

    async def behave(request: web.Request, body: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": content_type})
        await response.prepare(request)
        for index, part in enumerate(parts):
            if index == 1 and gate:
                await asyncio.to_thread(gate.wait, 60)
            await response.write(part)
        if die:
            await asyncio.sleep(0.05)
            request.transport.abort()
            await asyncio.sleep(3600)
        await response.write_eof()
        return response

    return behave


SSE = "text/event-stream"
NDJSON = "application/x-ndjson"


def sse(*frames: dict | str) -> list[bytes]:
    return [f"data: {f if isinstance(f, str) else json.dumps(f)}\n\n".encode() for f in frames]


def lines(*values: dict) -> list[bytes]:
    return [json.dumps(v, separators=(",", ":")).encode() + b"\n" for v in values]
