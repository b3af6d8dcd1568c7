"""One question to one side, and all that came back, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from orchestrator.checks import Side
from orchestrator.clients.stream import open_client


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
