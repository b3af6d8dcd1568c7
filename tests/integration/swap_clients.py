"""Clients that never stop while a port changes hands: new connections all the time, and pools that keep theirs."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections import Counter
from typing import Self

import httpx


class Clients:
    """A background load; `outcomes` counts (who answered, "complete" | kind of failure)."""

    def __init__(
        self, port: int, *, per_second: float = 25, pools: int = 6, seconds: tuple[float, float] = (2, 4)
    ) -> None:
        self._url = f"http://127.0.0.1:{port}/api/generate"
        self._per_second, self._pools, self._seconds = per_second, pools, seconds
        self._rng = random.Random(7)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def complete(self, server: str) -> int:
        return self.outcomes[(server, "complete")]

    async def _main(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(timeout=30, limits=limits) as fresh, asyncio.TaskGroup() as tasks:
            for number in range(self._pools):
                tasks.create_task(self._pool(number * 0.3))
            while not self._stop.is_set():
                tasks.create_task(self._ask(fresh, self._rng.uniform(*self._seconds)))
                await asyncio.sleep(1 / self._per_second)

    async def _pool(self, think_s: float) -> None:
        async with httpx.AsyncClient(timeout=30) as kept:
            while not self._stop.is_set():
                await self._ask(kept, 0.5)
                await asyncio.sleep(think_s * self._rng.uniform(0.7, 1.3))

    async def _ask(self, client: httpx.AsyncClient, seconds: float) -> None:
        server, done = "?", False
        try:
            async with client.stream("POST", self._url, json={"seconds": seconds}) as response:
                async for line in response.aiter_lines():
                    said = json.loads(line)
                    server, done = said["server"], said["done"]
            self.outcomes[(server, "complete" if done else "truncated")] += 1
        except httpx.HTTPError as error:
            self.outcomes[(server, type(error).__name__)] += 1
            self.failures.append(f"{server}: {error!r}")
