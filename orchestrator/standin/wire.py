"""The thin layer between uvicorn and the stand-ins: one object per request, written to by hand.

Status lines, header spelling, content lengths and chunking are part of what the stand-ins imitate, so
nothing here is left to a framework's defaults.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import uvicorn

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Json = dict[str, Any]


class Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        self.target = raw.decode("latin-1")
        self.path: str = scope["path"]
        self.query = scope.get("query_string", b"").decode("latin-1")
        self.headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        client = scope.get("client") or ("127.0.0.1", 0)
        self.client: tuple[str, int] = (str(client[0]), int(client[1]))
        self.body = b""
        self.status = 0
        self.gone = False
        self.gone_status = 499  # what the log says of a client that left before the model was loaded
        self._receive = receive
        self._send = send
        self._ended = False

    @property
    def started(self) -> bool:
        return self.status != 0

    def loaded(self) -> None:
        """Note that the wait for the model is over."""
        self.gone_status = 500

    async def read(self) -> None:
        """Read the whole body; a client that leaves meanwhile sets `gone`."""
        parts = []
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.gone = True
                return
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        self.body = b"".join(parts)

    async def start(self, status: int, headers: dict[str, str]) -> None:
        self.status = status
        pairs = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})

    async def write(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        if not self._ended:
            self._ended = True
            await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def reply(self, status: int, body: bytes, headers: dict[str, str], *, sized: bool = True) -> None:
        """Answer in one piece; `sized` false leaves the length out, so that the body is chunked."""
        if sized:
            headers = {**headers, "content-length": str(len(body))}
        await self.start(status, headers)
        await self.end(b"" if self.method == "HEAD" else body)

    async def until_gone(self) -> None:
        """Return when the client has left (or the answer is complete)."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def watched(exchange: Exchange, work: Awaitable[None]) -> bool:
    """Run `work` until it ends or its client leaves; return whether the client left first."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(exchange.until_gone())
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return False
        exchange.gone = True
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return True
    finally:
        for pending in (watch, task):
            pending.cancel()


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: each stand-in ends the way its original does."""

    on_listening: Callable[[], None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # As the originals do. asyncio would only on a socket whose protocol was named; without, Nagle's algorithm
        # and delayed acknowledgements cost 40 ms per answer on a kept connection.
        for bound in sockets or ():
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await super().startup(sockets=sockets)
        if self.on_listening:
            self.on_listening()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server(app: Any, *, server_header: bool, keep_alive: int = 75) -> Server:
    """Return an HTTP server for an ASGI application; the caller hands it a bound socket."""
    config = uvicorn.Config(
        app, http="httptools", loop="asyncio", lifespan="off", log_config=None, access_log=False,
        server_header=server_header, timeout_keep_alive=keep_alive, backlog=2048,
    )  # fmt: skip
    return Server(config)
