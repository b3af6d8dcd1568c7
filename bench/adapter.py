"""What does it cost the adapter to translate a chunk of vLLM into one of Ollama?

    .venv/bin/python bench/adapter.py [--streams 64] [--chunks 400] [--gap-ms 20] [--rounds 3] [--paths /api/chat ...]

An upstream that speaks as vLLM does, in a process of its own, sends one event per write: every `gap-ms` to each stream
(each chunk is then a read of its own for the adapter, the worst case), and once more without a pause. CPU time is that
of the adapter's process alone, so the other processes of a busy machine do not count. Medians over the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import httpx

HERE = Path(__file__).parent
MODEL = "llama3.1:8b"
PORTS = (24810, 24811)
BAR = 15_000
MESSAGES = [{"role": "user", "content": "x" * 1000}]
REQUESTS = {
    "/api/chat": {"model": MODEL, "messages": MESSAGES},
    "/api/generate": {"model": MODEL, "prompt": "x" * 1000},
    "/v1/chat/completions": {"model": MODEL, "messages": MESSAGES, "stream": True},
    "/v1/completions": {"model": MODEL, "prompt": "x" * 1000, "stream": True},
    "/v1/messages": {"model": MODEL, "messages": MESSAGES, "max_tokens": 10_000, "stream": True},
    "/v1/responses": {"model": MODEL, "input": "x" * 1000, "stream": True},
}
ENDS = {"/v1/messages": b"event: message_stop", "/v1/responses": b"event: response.completed"}
WORDS = (" the", " quick", " brown", " fox", ' \\"says\\"', "\\n", " naïve", " 狐", " <b>", " jumps over")


class Upstream(asyncio.Protocol):
    """Answers every request with a stream of `chunks` events, one write each."""

    def __init__(self, chunks: int, gap: float) -> None:
        self.chunks, self.gap, self.rest = chunks, gap, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.room = asyncio.Event()
        self.room.set()

    def pause_writing(self) -> None:
        self.room.clear()

    def resume_writing(self) -> None:
        self.room.set()

    def data_received(self, data: bytes) -> None:
        self.rest += data
        head, found, body = self.rest.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(body) >= length:
            ids = b'"return_token_ids":true' in body
            self.rest = body[length:]
            self.task = asyncio.get_running_loop().create_task(self.answer(ids))

    def event(self, text: str) -> None:
        data = f"data: {text}\n\n".encode()
        self.transport.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    async def answer(self, ids: bool) -> None:
        head = '{"id":"chatcmpl-b38d572e0ee07522","object":"chat.completion.chunk","created":1795222920,"model":"m",'
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        self.event(
            head + '"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,'
            '"finish_reason":null}],"prompt_token_ids":[1,2,3],"prompt_text":null}'
        )
        due = time.monotonic()
        for at in range(self.chunks):
            token = f"[{1000 + at}]" if ids else "null"
            self.event(
                f'{head}"choices":[{{"index":0,"delta":{{"content":"{WORDS[at % len(WORDS)]}"}},"logprobs":null,'
                f'"finish_reason":null,"token_ids":{token}}}]}}'
            )
            due += self.gap
            await (asyncio.sleep(max(due - time.monotonic(), 0)) if self.gap else self.room.wait())
        self.event(head + '"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}')
        counts = f'{{"prompt_tokens":3,"completion_tokens":{self.chunks},"total_tokens":{self.chunks + 3}}}'
        self.event(f'{head}"choices":[],"usage":{counts}}}')
        self.event("[DONE]")
        self.transport.write(b"0\r\n\r\n")


async def upstream(chunks: int, gap: float) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Upstream(chunks, gap), "127.0.0.1", PORTS[0])
    await server.serve_forever()


class Listener(asyncio.Protocol):
    """Reads one stream to its end and counts its bytes."""

    def __init__(self, request: bytes, end: bytes) -> None:
        self.request, self.end, self.tail, self.size = request, end, b"", 0
        self.done: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.size += len(data)
        self.tail = self.tail[-200:] + data
        if self.end in self.tail and not self.done.done():
            self.done.set_result(self.size)
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("cut"))


async def listen(path: str, streams: int) -> None:
    body = json.dumps(REQUESTS[path]).encode()
    end = ENDS.get(path, b"[DONE]" if path.startswith("/v1") else b'"done":true')
    request = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    loop = asyncio.get_running_loop()
    opened = [
        await loop.create_connection(lambda: Listener(request, end), "127.0.0.1", PORTS[1]) for _ in range(streams)
    ]
    await asyncio.gather(*(listener.done for _, listener in opened))


def cpu(pid: int) -> float:
    """Return the CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def configuration(folder: Path) -> Path:
    route = {"engine": "one", "url": f"http://127.0.0.1:{PORTS[0]}", "served": MODEL, "context_length": 100_000,
             "capabilities": ["completion"]}  # fmt: skip
    path = folder / "adapter.json"
    path.write_text(json.dumps({"version": "0.0.0", "routes": {MODEL: route}}))
    return path


def started(*argv: str, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, *argv], env={**os.environ, **environment}, stderr=subprocess.DEVNULL)


def wait_for(url: str) -> None:
    for _ in range(200):
        try:
            httpx.get(url, trust_env=False).raise_for_status()
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"{url} does not answer")


def measure(given: argparse.Namespace, gap: float, label: str) -> bool:
    """Print what each path costs with this gap; return whether the native API meets the bar."""
    beside = started(str(Path(__file__)), "--upstream", str(gap), "--chunks", str(given.chunks))
    time.sleep(1)
    met = True
    try:
        for path in given.paths:
            costs = []
            for _ in range(given.rounds):
                before = cpu(given.pid)
                asyncio.run(listen(path, given.streams))
                costs.append((cpu(given.pid) - before) / given.streams / given.chunks)
            each = median(costs)
            met = met and (1 / each >= BAR or path != "/api/chat")
            print(f"| {path} | {label} | {1 / each:,.0f} | {each * 1e6:.1f} |", flush=True)
    finally:
        beside.terminate()
        beside.wait()
    return met


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--chunks", type=int, default=400)
    parser.add_argument("--gap-ms", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--paths", nargs="+", default=list(REQUESTS), choices=list(REQUESTS))
    parser.add_argument("--upstream", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.upstream is not None:
        asyncio.run(upstream(given.chunks, given.upstream))
    with tempfile.TemporaryDirectory() as folder:
        config = configuration(Path(folder))
        adapter = started("-m", "orchestrator.adapter.serve", "--host", "127.0.0.1", "--port", str(PORTS[1]),
                          ADAPTER_CONFIG=str(config), PYTHONPATH=str(HERE.parent))  # fmt: skip
        given.pid = adapter.pid
        try:
            wait_for(f"http://127.0.0.1:{PORTS[1]}/healthz")
            print(f"{given.streams} streams of {given.chunks} chunks\n")
            print("| path | chunks come | per CPU second | µs each |\n|---|---|---|---|")
            paced = measure(given, given.gap_ms / 1000, f"one by one, every {given.gap_ms:g} ms")
            flood = measure(given, 0.0, "as fast as they are taken")
        finally:
            adapter.terminate()
            adapter.wait()
    print(f"\nbar: {BAR:,} chunks per CPU second on /api/chat: {'met' if paced and flood else 'NOT met'}")
    return 0 if paced and flood else 1


if __name__ == "__main__":
    sys.exit(main())
