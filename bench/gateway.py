"""What does the gateway cost beside a bare nginx that only passes on? Everything of the gateway is switched on.

    tools/engine run .venv/bin/python bench/gateway.py [--rounds 4] [--seconds 5] [--litellm URL]

One worker each, the same image, interleaved rounds, medians. Needs `wrk`, and the image of the gateway
(`make setup`). `--litellm`: a LiteLLM proxy that runs already, in front of the same upstream (the address is printed).
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from gateway_stage import UPSTREAM, Server, Stage

ROUTE = "llama3.1:8b"
CHAT = {"messages": [{"role": "user", "content": "x" * 1000}], "model": ROUTE, "max_tokens": 64}
PATH = "/v1/chat/completions"


def rate(server: Server, connections: int, seconds: int, folder: Path) -> tuple[float, float]:
    """Return requests per second and CPU microseconds per request."""
    script = folder / "chat.lua"
    script.write_text(f"wrk.method='POST'\nwrk.headers['Content-Type']='application/json'\nwrk.body=[==[{json.dumps(CHAT)}]==]\n")
    before = server.cpu()
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), server.url + PATH],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    used = server.cpu() - before
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        print(f"  {server.name}: {done.stdout.strip().splitlines()[-3:]}", file=sys.stderr)
    total = int(re.search(r"(\d+) requests in", done.stdout)[1])
    return float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)[1]), used / total * 1e6


class Listener(asyncio.Protocol):
    """One stream: how late each chunk came, in ns, by the time that it carries."""

    stamp = re.compile(rb'"at":(\d+)')

    def __init__(self, request: bytes) -> None:
        self.request, self.late, self.rest = request, [], b""
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        data = self.rest + data
        found = list(self.stamp.finditer(data))
        self.late += [now - int(one[1]) for one in found]
        self.rest = data[found[-1].end():] if found else data[-64:]
        if b"[DONE]" in data and not self.done.done():
            self.done.set_result(None)
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("cut"))


async def listen(server: Server, streams: int, chunks: int) -> tuple[list[int], float]:
    body = json.dumps(CHAT | {"stream": True}).encode()
    host, port = server.url.removeprefix("http://").split(":")
    head = (f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nX-Chunks: {chunks}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode()  # fmt: skip
    before = server.cpu()
    loop = asyncio.get_running_loop()

    async def one(number: int) -> list[int]:
        await asyncio.sleep(number * 0.02 / streams)
        _, listener = await loop.create_connection(lambda: Listener(head + body), host, int(port))
        await listener.done
        return listener.late

    parts = await asyncio.gather(*(one(number) for number in range(streams)))
    late = [value for part in parts for value in part]
    return late, (server.cpu() - before) / len(late) * 1e6


def streams(server: Server, count: int, seconds: int) -> tuple[float, float, float]:
    """Return CPU microseconds per chunk, and the median and p99 of how late a chunk came, ms."""
    late, cpu = asyncio.run(listen(server, count, seconds * 50))
    late.sort()
    return cpu, late[len(late) // 2] / 1e6, late[int(len(late) * 0.99)] / 1e6


def large(server: Server, size: int, count: int) -> list[float]:
    """Return the seconds of each of `count` requests with `size` bytes, `model` last."""
    body = json.dumps({"messages": [{"role": "user", "content": "y" * size}], "model": ROUTE}).encode()
    host, port = server.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port))
    took = []
    for _ in range(count):
        start = time.perf_counter()
        connection.request("POST", PATH, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        took.append(time.perf_counter() - start)
        assert answer.status == 200, answer.status
    connection.close()
    return took


async def crowd(server: Server, idle: int, live: int) -> float:
    """Return the memory, MB, with this many idle connections and live streams."""
    host, port = server.url.removeprefix("http://").split(":")
    opened = [await asyncio.open_connection(host, int(port)) for _ in range(idle)]
    running = asyncio.create_task(listen(server, live, 250))
    await asyncio.sleep(3)
    memory = server.memory()
    await running
    for _, writer in opened:
        writer.close()
    return memory


def ratio(name: str, ours: float, theirs: float, unit: str, bar: str) -> None:
    print(f"{name:<44} {ours:>10,.1f} {theirs:>10,.1f} {unit:<9} {ours / theirs:>6.2f}   {bar}")


def measure(stage: Stage, options: argparse.Namespace, folder: Path) -> None:
    pair = (stage.gateway, stage.bare)
    rates = {s.name: [] for s in pair}
    for _ in range(options.rounds):
        for server in pair:
            rates[server.name].append(rate(server, 64, options.seconds, folder))
    print(f"{'':<44} {'gateway':>10} {'bare':>10} {'':<9} {'ratio':>6}   bar")
    ratio("requests/s, 64 connections", *(median(r for r, _ in rates[s.name]) for s in pair), "1/s", ">= 0.7")
    ratio("CPU per request", *(median(c for _, c in rates[s.name]) for s in pair), "us", "")
    if options.litellm:
        other = Server("litellm", options.litellm, "")
        slow = median(rate(other, 64, options.seconds, folder)[0] for _ in range(options.rounds))
        ratio("requests/s beside LiteLLM", median(r for r, _ in rates["gateway"]), slow, "1/s", ">= 300")
    chunks = {s.name: [] for s in pair}
    for _ in range(options.rounds):
        for server in pair:
            chunks[server.name].append(streams(server, 256, options.seconds))
    mid = {name: [median(column) for column in zip(*rows, strict=True)] for name, rows in chunks.items()}
    ratio("CPU per chunk, 256 streams", mid["gateway"][0], mid["bare"][0], "us", "<= 1.2")
    ratio("chunk late, p50", mid["gateway"][1], mid["bare"][1], "ms", "")
    ratio("chunk late, p99", mid["gateway"][2], mid["bare"][2], "ms", "added <= 5")
    sizes = {s.name: [] for s in pair}
    for _ in range(options.rounds):
        for server in pair:
            sizes[server.name] += large(server, 20_000_000, 3)
    ratio("20 MB body, model last", *(median(sizes[s.name]) * 1000 for s in pair), "ms", "< 3")
    before = stage.gateway.memory()
    large(stage.gateway, 20_000_000, options.bodies)
    after = stage.gateway.memory()
    print(f"memory before and after {options.bodies} bodies of 20 MB: {before:.1f} -> {after:.1f} MB (bar: no growth)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--bodies", type=int, default=1000)
    parser.add_argument("--litellm", help=f"a LiteLLM proxy before http://127.0.0.1:{UPSTREAM}/v1")
    options = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("wrk is not here\n  next: install it (Debian: apt-get install wrk)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stage = Stage(folder)
        try:
            fresh = asyncio.run(crowd(stage.gateway, 1000, 256))
            print(f"memory with 1000 idle connections and 256 live streams: {fresh:.1f} MB (bar: <= 60)")
            measure(stage, options, folder)
        finally:
            stage.close()


if __name__ == "__main__":
    main()
