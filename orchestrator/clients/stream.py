"""An httpx transport that stamps bytes where they arrive: asyncio and httptools, plain or TLS.

httpx's stock pool costs more per chunk the more connections it holds and delays what it measures. Here the
clock is read in the first statement after a read, the request is written in the same loop step as its
send stamp, and nothing is parsed but the HTTP framing. Each response carries its `Exchange` in
`response.extensions["exchange"]`; `extensions={"total": seconds}` of a request bounds it as a whole.

Not for proxies, HTTP/2 or compressed bodies; use it with `httpx.AsyncClient(trust_env=False)`, since a proxy
of the environment would bypass it. Bodies are kept until their response is closed: measuring must never
slow a server down.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from time import perf_counter_ns
from typing import NamedTuple

import httpx

from orchestrator.clients.wire import Connection, Exchange

# Servers close idle connections after 5 s (uvicorn); a request on a closed one would fail.
KEEP_ALIVE_S = 3.0
_SWEEP_S = 0.1
_READ_BYTES = 64 * 1024

__all__ = ["Exchange", "StreamTransport", "open_client"]


class _Origin(NamedTuple):
    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: httpx.URL) -> _Origin:
        if url.scheme not in ("http", "https"):
            raise httpx.UnsupportedProtocol(f"cannot speak {url.scheme or 'no scheme'!r}: {url}")
        return cls(url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))


class StreamTransport(httpx.AsyncBaseTransport):
    """Unlimited connections, one request at a time on each, reused while younger than `keep_alive_s` idle."""

    def __init__(self, *, verify: bool | ssl.SSLContext = True, keep_alive_s: float = KEEP_ALIVE_S) -> None:
        self._verify = verify
        self._keep_alive_ns = int(keep_alive_s * 1e9)
        self._idle: dict[_Origin, list[Connection]] = {}
        self._active: set[Connection] = set()
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._sweeper: asyncio.TimerHandle | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        origin = _Origin.of(request.url)
        timeouts = request.extensions.get("timeout", {})
        exchange = Exchange(timeouts.get("read"), request.extensions.get("total"), request.method == "HEAD")
        wire = _head(request, len(body)) + body
        connection = await self._send(origin, exchange, wire, timeouts.get("connect"))
        return httpx.Response(
            status_code=exchange.status,
            headers=exchange.headers,
            stream=_Body(self, origin, connection, exchange),
            extensions={"exchange": exchange, "http_version": b"HTTP/1.1"},
        )

    async def prepare(self, url: str | httpx.URL, count: int, *, connect_s: float | None = 5.0) -> None:
        """Open connections until `count` are idle for this address; httpx.ConnectError if refused."""
        origin = _Origin.of(httpx.URL(url))
        held = [connection for _ in range(count) if (connection := self._reusable(origin)) is not None]
        try:
            while len(held) < count:
                held.append(await self._connect(origin, connect_s))
        finally:
            for connection in held:
                self._release(origin, connection)

    async def aclose(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in [*self._active, *(idle for pool in self._idle.values() for idle in pool)]:
            connection.drop()
        self._idle.clear()
        self._active.clear()
        await asyncio.sleep(0)  # lets the loop close the sockets

    async def _send(self, origin: _Origin, exchange: Exchange, wire: bytes, connect_s: float | None) -> Connection:
        """Write the request, wait for the headers; once more on a fresh connection if a reused one was dead."""
        reused = self._reusable(origin)
        connection = reused or await self._connect(origin, connect_s)
        try:
            await self._attempt(connection, exchange, wire)
        except (httpx.RemoteProtocolError, httpx.ReadError):
            if reused is None or exchange.received:
                raise
            connection = await self._connect(origin, connect_s)
            exchange.restart()
            await self._attempt(connection, exchange, wire)
        return connection

    async def _attempt(self, connection: Connection, exchange: Exchange, wire: bytes) -> None:
        self._active.add(connection)
        self._keep_sweeping()
        try:
            connection.send(exchange, wire)
            await exchange.headers_complete()
        except BaseException:
            self._active.discard(connection)
            connection.drop()
            raise

    async def _connect(self, origin: _Origin, connect_s: float | None) -> Connection:
        loop = asyncio.get_running_loop()
        _, host, port = origin
        context = self._tls() if origin.scheme == "https" else None
        try:
            async with asyncio.timeout(connect_s):
                _, connection = await loop.create_connection(lambda: Connection(self._buffer), host, port, ssl=context)
        except TimeoutError as late:
            raise httpx.ConnectTimeout(f"no connection to {host}:{port} in {connect_s} s") from late
        except OSError as failure:
            raise httpx.ConnectError(f"cannot connect to {host}:{port}: {failure}") from failure
        return connection

    def _tls(self) -> ssl.SSLContext:
        if not isinstance(self._verify, ssl.SSLContext):
            self._verify = httpx.create_ssl_context(verify=self._verify)
            self._verify.set_alpn_protocols(["http/1.1"])
        return self._verify

    def _reusable(self, origin: _Origin) -> Connection | None:
        pool = self._idle.get(origin, [])
        while pool:
            connection = pool.pop()
            if connection.usable and perf_counter_ns() - connection.idle_since < self._keep_alive_ns:
                return connection
            connection.drop()
        return None

    def _release(self, origin: _Origin, connection: Connection) -> None:
        """Back to the pool after a whole answer; else the connection ends, so that the server stops too."""
        self._active.discard(connection)
        if connection.usable:
            connection.idle_since = perf_counter_ns()
            self._idle.setdefault(origin, []).append(connection)
        else:
            connection.drop()

    def _keep_sweeping(self) -> None:
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        """One timer for all requests: a timer per chunk would cost more than the chunk."""
        self._sweeper = None
        now = perf_counter_ns()
        for connection in list(self._active):
            connection.expire(now)
        if self._active:
            self._keep_sweeping()


class _Body(httpx.AsyncByteStream):
    def __init__(self, owner: StreamTransport, origin: _Origin, connection: Connection, exchange: Exchange) -> None:
        self._owner, self._origin = owner, origin
        self._connection, self._exchange = connection, exchange
        self._open = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        position = 0
        while True:
            while position < len(self._exchange.pieces):
                yield self._exchange.pieces[position][1]
                position += 1
            if self._exchange.ended:
                self._exchange.raise_failure()
                return
            await self._exchange.more()

    async def aclose(self) -> None:
        if self._open:
            self._open = False
            self._owner._release(self._origin, self._connection)  # noqa: SLF001 (one unit in two classes)


def _head(request: httpx.Request, length: int) -> bytes:
    """The request line and headers; the body is whole, so its length replaces any transfer encoding."""
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    skipped = (b"content-length", b"transfer-encoding", b"accept-encoding")
    lines += [b"%b: %b" % (name, value) for name, value in request.headers.raw if name.lower() not in skipped]
    lines.append(b"Accept-Encoding: identity")
    if length or request.method in ("POST", "PUT", "PATCH"):
        lines.append(b"Content-Length: %d" % length)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def open_client(
    base_url: str,
    *,
    headers: dict[str, str] | None = None,
    idle_s: float | None = 60.0,
    connect_s: float = 5.0,
    transport: httpx.AsyncBaseTransport | None = None,
) -> httpx.AsyncClient:
    """An httpx client over this transport: `idle_s` bounds the silence between two reads, in seconds."""
    return httpx.AsyncClient(
        base_url=base_url,
        headers=headers,
        timeout=httpx.Timeout(idle_s, connect=connect_s),
        transport=transport or StreamTransport(),
        trust_env=False,
    )
