"""How this server frames its answers."""

from __future__ import annotations

import json as stdlib
from typing import Any

from orchestrator.standin.wire import Exchange

JSON = "application/json"
SSE = "text/event-stream; charset=utf-8"
VARY = {"vary": "Origin"}


def dumps(value: Any) -> bytes:
    return stdlib.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


async def json(exchange: Exchange, value: Any, status: int = 200, **headers: str) -> None:
    await exchange.reply(status, dumps(value), {"content-type": JSON, **headers, **VARY})


async def empty(exchange: Exchange, status: int = 200) -> None:
    await exchange.reply(status, b"", VARY)


async def begin(exchange: Exchange) -> None:
    await exchange.start(200, {"content-type": SSE, **VARY})


async def event(exchange: Exchange, value: Any, name: str = "") -> None:
    head = f"event: {name}\n" if name else ""
    await exchange.write(head.encode() + b"data: " + dumps(value) + b"\n\n")


async def broken(exchange: Exchange, message: str, status: int) -> None:
    """End a stream whose engine died: an error frame (spaced, unlike all others), then the usual end."""
    error = {"message": message, "type": "InternalServerError", "param": None, "code": status}
    frame = f"data: {stdlib.dumps({'error': error})}\n\n"
    await exchange.end(frame.encode() + b"data: [DONE]\n\n")
