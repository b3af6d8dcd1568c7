"""One HTTP/1.1 connection of the stream transport, and what one request on it gave."""

from __future__ import annotations

import asyncio
from time import perf_counter_ns
from typing import Any

import httptools
import httpx


class Exchange:
    """One request and its answer; all stamps are `perf_counter_ns`, pieces of one read share theirs."""

    def __init__(self, idle_s: float | None, total_s: float | None, bodiless: bool) -> None:
        self.sent_ns = 0
        self.headers_ns = 0
        self.last_ns = 0
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.pieces: list[tuple[int, bytes]] = []
        self.ended = False
        self.retried = False
        self.failure: httpx.TransportError | None = None
        self.bodiless = bodiless
        self._idle_ns = int(idle_s * 1e9) if idle_s is not None else None
        self._total_ns = int(total_s * 1e9) if total_s is not None else None
        self._started_ns = 0
        self._waiter: asyncio.Future[None] | None = None
        self._only_end = False

    @property
    def received(self) -> bool:
        return self.last_ns > self.sent_ns

    def start(self) -> None:
        self.sent_ns = self.last_ns = perf_counter_ns()
        self._started_ns = self._started_ns or self.sent_ns

    def restart(self) -> None:
        """A reused connection was dead before it answered a byte; the request goes out once more."""
        self.failure, self.ended, self.retried = None, False, True

    async def headers_complete(self) -> None:
        while not self.headers_ns and not self.ended:
            await self.more()
        if not self.headers_ns:
            self.raise_failure()

    async def finished(self) -> None:
        """Wait for the end of the body without waking up per piece; the failure is raised, if any."""
        self._only_end = True
        try:
            while not self.ended:
                await self.more()
        finally:
            self._only_end = False
        self.raise_failure()

    async def more(self) -> None:
        """Wait until something arrived or ended."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done() and (self.ended or not self._only_end):
            self._waiter.set_result(None)

    def end(self, failure: httpx.TransportError | None = None) -> None:
        if not self.ended:
            self.ended, self.failure = True, failure
            self.wake()

    def raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure

    def overdue(self, now: int) -> httpx.TransportError | None:
        if self._idle_ns is not None and now - self.last_ns > self._idle_ns:
            return httpx.ReadTimeout(f"nothing arrived for {self._idle_ns / 1e9:g} s")
        if self._total_ns is not None and now - self._started_ns > self._total_ns:
            return httpx.ReadTimeout(f"not complete after {self._total_ns / 1e9:g} s")
        return None


class Connection(asyncio.BufferedProtocol):
    """Feeds the parser and stores (stamp, bytes); nothing else happens while a stream runs.

    `buffer` is where reads land. It may be shared by connections of one loop, since a read is used up at once;
    without it asyncio would allocate 256 KiB for every read, which costs more than all the rest.
    """

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self.idle_since = perf_counter_ns()
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._parser: Any = None
        self._now = 0
        self._informational = False
        self._framed = False
        self._reusable = True

    @property
    def usable(self) -> bool:
        """Open, and between two requests."""
        open_ = self._transport is not None and not self._transport.is_closing()
        return open_ and self._reusable and self._exchange is None

    def send(self, exchange: Exchange, wire: bytes) -> None:
        self._exchange = exchange
        self._parser = httptools.HttpResponseParser(self)
        self._framed = self._informational = False
        transport = self._transport
        exchange.start()
        if transport is None or transport.is_closing():
            self._fail(httpx.ReadError("the server had closed the connection"))
        else:
            transport.write(wire)

    def drop(self) -> None:
        """Close without waiting; the server sees that its reader has gone."""
        self._reusable = False
        if self._transport is not None:
            self._transport.abort()

    def expire(self, now: int) -> None:
        failure = self._exchange.overdue(now) if self._exchange is not None else None
        if failure is not None:
            self._fail(failure)
            self.drop()

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        now = perf_counter_ns()
        exchange = self._exchange
        if exchange is None:
            self.drop()  # bytes that nobody asked for: the framing is lost
            return
        self._now = exchange.last_ns = now
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except httptools.HttpParserError as problem:
            self._fail(httpx.RemoteProtocolError(f"not HTTP/1.1: {problem}"))
            self.drop()
        exchange.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._reusable = False
        exchange = self._exchange
        if exchange is None:
            return
        if exc is not None:
            self._fail(httpx.ReadError(f"connection broke: {exc}"))
        elif exchange.headers_ns and not self._framed:
            self._exchange = None
            exchange.end()  # a body without a length ends with the connection
        else:
            self._fail(httpx.RemoteProtocolError("the server closed the connection before the answer was whole"))

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        assert self._exchange is not None
        self._exchange.headers.append((name, value))

    def on_headers_complete(self) -> None:
        exchange = self._exchange
        assert exchange is not None
        status = self._parser.get_status_code()
        self._informational = 100 <= status < 200
        if self._informational:
            exchange.headers.clear()
            return
        lengths = (b"content-length", b"transfer-encoding")
        self._framed = any(name.lower() in lengths for name, _ in exchange.headers)
        exchange.status, exchange.headers_ns = status, self._now
        if exchange.bodiless:
            self._reusable = False  # the parser would wait for a body that HEAD does not have
            self._finish(exchange)

    def on_body(self, body: bytes) -> None:
        if self._exchange is not None:
            self._exchange.pieces.append((self._now, body))

    def on_message_complete(self) -> None:
        exchange = self._exchange
        if exchange is None or self._informational:
            return
        self._reusable = self._reusable and self._parser.should_keep_alive()
        self._finish(exchange)

    def _finish(self, exchange: Exchange) -> None:
        self._exchange = None
        exchange.end()

    def _fail(self, failure: httpx.TransportError) -> None:
        exchange, self._exchange = self._exchange, None
        self._reusable = False
        if exchange is not None:
            exchange.end(failure)
