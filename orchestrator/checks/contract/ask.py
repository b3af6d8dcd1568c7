"""One question to one side, and all that came back, as plain data."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from orchestrator.checks import Side
from orchestrator.clients.stream import open_client

Found = TypeVar("Found")
_TELL_S = 0.5


@dataclass(frozen=True, slots=True)
class Reply:
    """What a side answered. `status` is 0 where nothing came; `arrivals`: how often bytes came; no secrets in it."""

    status: int
    kind: str = ""          # media type, without parameters
    body: str = ""
    arrivals: int = 0
    failure: str = ""       # refused, broken, late

    @property
    def fine(self) -> bool:
        return self.status == httpx.codes.OK and not self.failure

    @property
    def gone(self) -> bool:
        """Whether nobody was there: no connection, or a gateway's word for it."""
        return self.status in (0, 502, 503, 504)


class Asker:
    """One side; every answer is data, a failure too."""

    def __init__(self, side: Side, timeout_s: float = 120.0) -> None:
        self._timeout_s = timeout_s
        self._http = open_client(side.base_url, headers=side.headers, idle_s=timeout_s)

    async def close(self) -> None:
        await self._http.aclose()

    async def ask(self, method: str, path: str, body: Any = None, *, text: str | None = None) -> Reply:
        """Ask; `text` is sent as it stands instead of a JSON body."""
        content = {"json": body} if text is None and body is not None else {}
        if text is not None:
            content = {"content": text.encode(), "headers": {"Content-Type": "application/json"}}
        extensions = {"total": self._timeout_s}
        try:
            async with self._http.stream(method, path, extensions=extensions, **content) as response:
                exchange = response.extensions["exchange"]
                failure = ""
                try:
                    await exchange.finished()
                except httpx.HTTPError as broken:
                    failure = f"{type(broken).__name__}: {broken}"
        except httpx.HTTPError as broken:
            return Reply(0, failure=f"{type(broken).__name__}: {broken}")
        whole = b"".join(data for _, data in exchange.pieces).decode("utf-8", "replace")
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        stamps = {stamp for stamp, data in exchange.pieces if data}
        return Reply(response.status_code, kind, whole, len(stamps), failure)


async def together(work: Sequence[Coroutine[Any, Any, Found]], tell: Callable[[], None] | None) -> list[Found]:
    """Wait for all; `tell` is called meanwhile, and may end the wait by raising."""
    tasks = [asyncio.create_task(one) for one in work]
    pending: set[asyncio.Task[Found]] = set(tasks)
    try:
        while pending:
            if tell:
                tell()
            _, pending = await asyncio.wait(pending, timeout=_TELL_S)
        return [task.result() for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
