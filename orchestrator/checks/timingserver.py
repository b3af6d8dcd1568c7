"""A server of known timing, to measure load clients against: streams chat chunks as vLLM does, on absolute deadlines.

`python -m orchestrator.checks.timingserver --log FILE` prints its port and serves until its stdin closes; then it
writes one JSON line per answer into FILE: {mark, read_ns, due_ns, sent_ns}: the mark in the prompt, when the request
was read whole, and for each token when it was due and when it was sent. The clock is `perf_counter_ns`, which all
processes of one machine share, so a client's error is its stamp minus these. One timer for all streams.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import heapq
import json
import os
import re
import sys
from array import array
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns

MARK = re.compile(rb"\[([0-9a-f]{16})\]")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)
_TOKENS = re.compile(rb'"max(?:_completion)?_tokens"\s*:\s*([0-9]+)')
_START = b'{"id":"chatcmpl-0","object":"chat.completion.chunk","created":0,"model":"known","choices":'


def framed(event: bytes) -> bytes:
    """One event of the stream as one HTTP chunk."""
    data = b"data: " + event + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_ROLE = framed(_START + b'[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}')
_DELTA = _START + b'[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":%b,"token_ids":null}]}'
_TOKEN, _LAST = framed(_DELTA % b"null"), framed(_DELTA % b'"length"')
_END = framed(b"[DONE]") + b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Timing:
    """What the server does, in ms: first token, gap, whether all streams step together, and a stall.

    stall: (when it begins after the first request, how long it lasts): nothing is sent meanwhile.
    """

    ttft_ms: float = 200.0
    gap_ms: float = 20.0
    lockstep: bool = False
    stall_ms: tuple[float, float] = (0.0, 0.0)


class Clock:
    """Sends what is due, in the order of the deadlines."""

    def __init__(self, timing: Timing) -> None:
        self.timing = timing
        self.answers: list[Answer] = []
        self._due: list[tuple[int, int, Answer]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._first = 0
        self._unread: list[Connection] = []

    def at(self, due: int) -> int:
        """When something due then is sent: on the common step, and after the stall."""
        begin, length = self.timing.stall_ms
        if length and 0 <= (due - self._first) / 1e6 - begin < length:
            due = self._first + int((begin + length) * 1e6)
        if not self.timing.lockstep:
            return due
        step = int(self.timing.gap_ms * 1e6)
        return -(-due // step) * step

    def later(self, connection: Connection) -> None:
        """Read this connection's request well before its first token is due."""
        if not self._unread:
            self._loop.call_later(self.timing.ttft_ms / 4000, self._read)
        self._unread.append(connection)

    def _read(self) -> None:
        unread, self._unread = self._unread, []
        for connection in unread:
            connection.read()

    def add(self, answer: Answer) -> None:
        self._first = self._first or answer.read_ns
        self.answers.append(answer)
        due = answer.next_ns(self)
        heapq.heappush(self._due, (due, len(self.answers), answer))
        if self._due[0][2] is answer:
            self._wait()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(0.0, (self._due[0][0] - perf_counter_ns()) / 1e9), self._serve)

    def _serve(self) -> None:
        due = self._due
        while due and due[0][0] <= perf_counter_ns():
            at, number, answer = due[0]
            if answer.send(at):
                heapq.heapreplace(due, (answer.next_ns(self), number, answer))
            else:
                heapq.heappop(due)
        self._timer = None
        if due:
            self._wait()


class Answer:
    """One answer under way."""

    __slots__ = ("due_ns", "left", "mark", "prompt", "read_ns", "sent_ns", "tokens", "transport", "usage")

    def __init__(self, transport: asyncio.Transport, body: bytes, read_ns: int) -> None:
        self.transport, self.read_ns = transport, read_ns
        found, most = MARK.search(body), _TOKENS.search(body)
        self.mark = found[1].decode() if found else ""
        self.tokens = self.left = max(1, int(most[1])) if most else 64
        self.usage = b'"include_usage"' in body
        self.prompt = max(1, len(body) // 5)
        self.due_ns, self.sent_ns = array("q"), array("q")
        transport.write(_HEAD)

    def next_ns(self, clock: Clock) -> int:
        gone = len(self.sent_ns)
        timing = clock.timing
        return clock.at(self.read_ns + int((timing.ttft_ms + gone * timing.gap_ms) * 1e6))

    def send(self, due: int) -> bool:
        """Send the next token; whether more follow."""
        if self.transport.is_closing():
            return False
        self.left -= 1
        data = _TOKEN if self.left else _LAST + self._tail()
        if not self.sent_ns:
            self.transport.write(_ROLE)
        self.due_ns.append(due)
        self.sent_ns.append(perf_counter_ns())
        self.transport.write(data)
        return self.left > 0

    def _tail(self) -> bytes:
        usage = b'[],"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}'
        counts = (self.prompt, self.tokens, self.prompt + self.tokens)
        return (framed(_START + usage % counts) if self.usage else b"") + _END


class Connection(asyncio.Protocol):
    """Stamps what arrives and leaves it: reading a request while others arrive would delay their stamps."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buffer = b""
        self._at = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._at = perf_counter_ns()
        self._buffer += data
        self._clock.later(self)

    def read(self) -> None:
        """Take the requests that have arrived."""
        while True:
            head, found, body = self._buffer.partition(b"\r\n\r\n")
            length = _LENGTH.search(head)
            size = int(length[1]) if length else 0
            if not found or len(body) < size:
                return
            self._buffer = body[size:]
            if head.startswith(b"POST"):
                self._clock.add(Answer(self._transport, body[:size], self._at))
            else:
                self._page(head)

    def _page(self, head: bytes) -> None:
        known = head.startswith((b"GET /v1/models", b"GET /health"))
        page = b'{"object":"list","data":[{"id":"known","object":"model","max_model_len":8192}]}' if known else b"{}"
        status = b"200 OK" if known else b"404 Not Found"
        self._transport.write(b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                              % (status, len(page), page))  # fmt: skip


async def serve(timing: Timing, log: Path | None, port: int = 0) -> None:
    loop = asyncio.get_running_loop()
    clock = Clock(timing)
    server = await loop.create_server(lambda: Connection(clock), "127.0.0.1", port, backlog=2048)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    ended = asyncio.Event()

    def heard() -> None:
        if not os.read(0, 1024):
            ended.set()

    loop.add_reader(sys.stdin.fileno(), heard)
    gc.collect()
    gc.freeze()
    gc.disable()
    await ended.wait()
    server.close()
    if log:
        with log.open("w", encoding="utf-8") as file:
            for one in clock.answers:
                line = {"mark": one.mark, "read_ns": one.read_ns, "due_ns": [*one.due_ns], "sent_ns": [*one.sent_ns]}
                file.write(json.dumps(line) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ttft-ms", type=float, default=200.0)
    parser.add_argument("--gap-ms", type=float, default=20.0)
    parser.add_argument("--lockstep", action="store_true", help="all streams get their token in the same instant")
    parser.add_argument("--stall-ms", type=float, nargs=2, default=(0.0, 0.0), metavar=("AT", "FOR"))
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path)
    options = parser.parse_args()
    timing = Timing(options.ttft_ms, options.gap_ms, options.lockstep, tuple(options.stall_ms))
    asyncio.run(serve(timing, options.log, options.port))


if __name__ == "__main__":
    main()
