"""A server of known timing: streams chat chunks on absolute deadlines and writes its own stamps into them.

`python bench/timing_server.py` prints its port and serves until its stdin closes. Each request says in its body
what it wants: {"ttft_ms", "gap_ms", "tokens"}. Each chunk carries "x": the perf_counter_ns just before it was
sent, and the first one "r": when the request was read whole. The clock is the client's (one machine).
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from time import perf_counter_ns

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
PAD = "p" * 120


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Stream(asyncio.Protocol):
    """One connection; one timer per stream, always for the next deadline."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.buffer, self.loop = transport, b"", asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = next(
            (int(h.split(b":")[1]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length")), 0
        )
        if len(body) < length:
            return
        self.buffer = body[length:]
        self.begin(json.loads(body[:length]), perf_counter_ns())

    def begin(self, wish: dict[str, float], read_ns: int) -> None:
        self.left, self.gap_ns = int(wish["tokens"]), int(wish["gap_ms"] * 1e6)
        self.read_ns, self.due = read_ns, read_ns + int(wish["ttft_ms"] * 1e6)
        self.transport.write(HEAD)
        self.wait()

    def wait(self) -> None:
        self.loop.call_later(max(0.0, (self.due - perf_counter_ns()) / 1e9), self.send)

    def send(self) -> None:
        if self.transport.is_closing():
            return
        delta = {"x": perf_counter_ns(), "r": self.read_ns, "pad": PAD}
        delta["choices"] = [{"index": 0, "delta": {"content": "w"}, "finish_reason": None}]
        self.left -= 1
        end = b"" if self.left else chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
        self.transport.write(chunk(b"data: " + json.dumps(delta).encode() + b"\n\n") + end)
        if self.left:
            self.due += self.gap_ns
            self.wait()


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Stream, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), lambda: os.read(0, 1024) or ended.set())
    gc.collect()
    gc.freeze()
    gc.disable()
    await ended.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
