"""How true are the stamps? Our transport beside stock httpx, against a server that knows what it sent and when.

    python bench/load_client.py [--streams 16 64 128] [--passes 3]

Every pass starts all streams together (the normal closed loop), client variants interleaved. Error of a first
token: (client's TTFT) - (server's first send - request read); error of a gap: |client's gap - server's gap|.
Passes in which the server itself was late (its own p99 gap over 1.5 times the wish) are repeated, not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter_ns

import httpx

from orchestrator.clients.stream import StreamTransport, open_client
from orchestrator.stats import percentile

TTFT_MS, GAP_MS, TOKENS = 200.0, 20.0, 48
Pieces = list[tuple[int, bytes]]
Shoot = Callable[[], Awaitable[tuple[int, Pieces]]]


async def ours(url: str, streams: int, body: bytes) -> list[tuple[int, Pieces]]:
    transport = StreamTransport()
    async with open_client(url, transport=transport) as client:

        async def shoot() -> tuple[int, Pieces]:
            async with client.stream("POST", "/", content=body) as response:
                exchange = response.extensions["exchange"]
                await exchange.finished()
                return exchange.sent_ns, list(exchange.pieces)

        await shoot()
        await transport.prepare(url, streams)
        return await together(shoot, streams)


async def stock(url: str, streams: int, body: bytes) -> list[tuple[int, Pieces]]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60, trust_env=False) as client:

        async def shoot() -> tuple[int, Pieces]:
            sent = perf_counter_ns()
            async with client.stream("POST", "/", content=body) as response:
                pieces = [(perf_counter_ns(), piece) async for piece in response.aiter_raw()]
            return sent, pieces

        await together(shoot, streams)  # opens the connections, as `prepare` does
        return await together(shoot, streams)


VARIANTS = {"ours": ours, "httpx": stock}


async def together(shoot: Shoot, streams: int) -> list[tuple[int, Pieces]]:
    """All streams begin within one gap."""

    async def one(number: int) -> tuple[int, Pieces]:
        await asyncio.sleep(number * GAP_MS / 1000 / streams)
        return await shoot()

    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        return await asyncio.gather(*(one(number) for number in range(streams)))
    finally:
        gc.enable()
        gc.unfreeze()


def one_pass(url: str, variant: str, streams: int) -> dict[str, float] | None:
    """Figures of one pass, or None where the server was not on time itself."""
    body = json.dumps({"ttft_ms": TTFT_MS, "gap_ms": GAP_MS, "tokens": TOKENS}).encode()
    cpu = time.process_time()
    shots = asyncio.run(VARIANTS[variant](url, streams, body))
    cpu = time.process_time() - cpu
    first, gaps, true_gaps = [], [], []
    for sent, pieces in shots:
        seen = [(stamp, event) for stamp, piece in pieces for event in events(piece)]
        first.append((seen[0][0] - sent - (seen[0][1]["x"] - seen[0][1]["r"])) / 1e6)
        for (a, x), (b, y) in pairwise(seen):
            true_gaps.append((y["x"] - x["x"]) / 1e6)
            gaps.append(abs((b - a) / 1e6 - true_gaps[-1]))
    if percentile(true_gaps, 99) > 1.5 * GAP_MS:
        return None
    chunks = (streams + (1 if variant == "ours" else streams)) * TOKENS  # warm-up included, as its CPU is
    return {
        "ttft p50": percentile(first, 50),
        "ttft p99": percentile(first, 99),
        "gap p99": percentile(gaps, 99),
        "us/chunk": cpu / chunks * 1e6,
    }


def events(piece: bytes) -> list[dict[str, int]]:
    lines = (line[6:] for line in piece.split(b"\n") if line.startswith(b"data: {"))
    return [json.loads(line) for line in lines]


def measure(url: str, streams: int, passes: int) -> dict[str, dict[str, float]]:
    found: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    for attempt in range(3 * passes):
        order = list(VARIANTS) if attempt % 2 == 0 else list(VARIANTS)[::-1]
        for variant in order:
            if len(found[variant]) < passes and (figures := one_pass(url, variant, streams)):
                found[variant].append(figures)
    return {v: {k: median(f[k] for f in figures) for k in figures[0]} for v, figures in found.items() if figures}


def show(streams: int, rows: dict[str, dict[str, float]]) -> None:
    for variant, row in rows.items():
        cells = "  ".join(f"{name} {value:8.2f}" for name, value in row.items())
        print(f"{streams:5d} streams  {variant:6s} {cells}", flush=True)
    if len(rows) == len(VARIANTS):
        ratios = {name: rows["httpx"][name] / max(rows["ours"][name], 1e-3) for name in rows["ours"]}
        print(f"{'':5s}          httpx / ours  " + "  ".join(f"{k} {v:.1f}x" for k, v in ratios.items()), flush=True)
    else:
        print(f"{'':5s}          the server was never on time here: no comparison", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[16, 64, 128])
    parser.add_argument("--passes", type=int, default=3)
    options = parser.parse_args()
    print(f"true TTFT {TTFT_MS:g} ms, gap {GAP_MS:g} ms, {TOKENS} tokens; errors in ms, medians of passes", flush=True)
    command = [sys.executable, str(Path(__file__).with_name("timing_server.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        for streams in options.streams:
            show(streams, measure(url, streams, options.passes))
        server.communicate("")


if __name__ == "__main__":
    main()
