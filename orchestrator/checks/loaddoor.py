"""What the route of checks adds to each request: the control door beside the public one, in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx

from orchestrator.checks import Side
from orchestrator.clients.stream import StreamTransport, open_client
from orchestrator.stats import order_interval, percentile

_PATH = "/api/version"
_TURNS = 60
_WARM = 5


def door_latency(public_url: str, door: Side, turns: int = _TURNS) -> dict[str, Any] | None:
    """How much longer a small answer takes over the door of checks than over the public address, ms.

    {n, public_ms, door_ms, added_ms, added_interval}: medians, and the interval of the median of the differences.
    None where either does not answer 200.
    """
    try:
        pairs = asyncio.run(_measure(public_url, door, turns))
    except (httpx.HTTPError, OSError):
        return None
    return summary(pairs) if pairs else None


def summary(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Figures from (public, door) pairs of ms. Pure."""
    added = [door - public for public, door in pairs]
    found = order_interval(added, 50)
    return {
        "n": len(pairs),
        "public_ms": percentile([public for public, _ in pairs], 50),
        "door_ms": percentile([door for _, door in pairs], 50),
        "added_ms": percentile(added, 50),
        "added_interval": [found.low, found.high] if found else None,
    }


async def _measure(public_url: str, door: Side, turns: int) -> list[tuple[float, float]]:
    async with (
        open_client(public_url, idle_s=5.0, transport=StreamTransport()) as public,
        open_client(door.base_url, headers=door.headers, idle_s=5.0, transport=StreamTransport()) as forced,
    ):
        pairs = []
        for turn in range(_WARM + turns):
            both = (public, forced) if turn % 2 == 0 else (forced, public)
            times = [await _one(client) for client in both]
            if None in times:
                return []
            ordered = times if turn % 2 == 0 else times[::-1]
            pairs.append((float(ordered[0] or 0), float(ordered[1] or 0)))
    return pairs[_WARM:]


async def _one(client: httpx.AsyncClient) -> float | None:
    response = await client.get(_PATH, extensions={"total": 5.0})
    exchange = response.extensions["exchange"]
    return (exchange.headers_ns - exchange.sent_ns) / 1e6 if response.status_code == 200 else None
