"""What vLLM says about itself while it is loaded: running, waiting, KV cache, preemptions, prefix cache.

Read about once a second from its /metrics, and looked up as bytes: a page is some 100 KB, and parsing it whole would
delay stamps.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from time import perf_counter_ns

import httpx

# The names of vLLM 0.32, then those that older versions used.
_GAUGES = {
    "running": (b"vllm:num_requests_running",),
    "waiting": (b"vllm:num_requests_waiting",),
    "kv": (b"vllm:kv_cache_usage_perc", b"vllm:gpu_cache_usage_perc"),
}
_COUNTERS = {
    "preemptions": (b"vllm:num_preemptions_total", b"vllm:num_preemptions"),
    "cache_queries": (b"vllm:prefix_cache_queries_total", b"vllm:prefix_cache_queries"),
    "cache_hits": (b"vllm:prefix_cache_hits_total", b"vllm:prefix_cache_hits"),
}
_VALUE = re.compile(rb"(?:\{[^\n]*\})?[ \t]+([-+0-9.eEnaifNI]+)")
Point = dict[str, float | None]


def read_page(page: bytes) -> Point:
    """The figures on one page of /metrics; None for what it does not have. Sums over models and engine cores.

    kv is a share: the highest of them counts.
    """
    point: Point = {name: _first(page, names, largest=name == "kv") for name, names in _GAUGES.items()}
    return point | {name: _first(page, names) for name, names in _COUNTERS.items()}


def _first(page: bytes, names: Sequence[bytes], *, largest: bool = False) -> float | None:
    for name in names:
        values = _values(page, name)
        if values:
            return max(values) if largest else sum(values)
    return None


def _values(page: bytes, name: bytes) -> list[float]:
    values, at = [], page.find(name)
    while at >= 0:
        after = at + len(name)
        found = _VALUE.match(page, after) if at == 0 or page[at - 1] == 0x0A else None
        if found:
            try:
                values.append(float(found[1]))
            except ValueError:
                return []
        at = page.find(name, after)
    return [value for value in values if value == value and abs(value) != float("inf")]  # noqa: PLR0124 - NaN


async def ask(client: httpx.AsyncClient, replicas: Sequence[str]) -> Point | None:
    """One look at an engine, all its replicas summed; None where it shows nothing."""
    points = [await _one(client, {"X-Migrate-Replica": name} if name else {}) for name in replicas or ("",)]
    found = [point for point in points if point is not None]
    if not found or all(value is None for point in found for value in point.values()):
        return None
    merged: Point = {}
    for name in found[0]:
        values = [value for point in found if (value := point[name]) is not None]
        merged[name] = (max(values) if name == "kv" else sum(values)) if values else None
    return merged


async def _one(client: httpx.AsyncClient, headers: dict[str, str]) -> Point | None:
    try:
        response = await client.get("/metrics", headers=headers, extensions={"total": 5.0})
    except httpx.HTTPError:
        return None
    return read_page(response.content) if response.status_code == 200 else None


class Poll:
    """Looks at an engine while a level runs; `points` are plain data with `at_us` since the level's start."""

    def __init__(self, client: httpx.AsyncClient, replicas: Sequence[str], every_s: float) -> None:
        self._client, self._replicas, self._every_s = client, replicas, every_s
        self.points: list[Point] = []

    async def run(self, start_ns: int) -> None:
        """Look until cancelled; gives up where the engine shows nothing."""
        while await self.look(start_ns):  # noqa: ASYNC110 - it looks, it does not wait
            await asyncio.sleep(self._every_s)

    async def look(self, start_ns: int) -> bool:
        point = await ask(self._client, self._replicas)
        if point is None:
            return False
        self.points.append({"at_us": float((perf_counter_ns() - start_ns) // 1000), **point})
        return True
