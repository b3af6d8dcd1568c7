"""Answers in the two styles of the real server: gin's own, and that of its /v1 middleware."""

from __future__ import annotations

import secrets
from typing import Any

from orchestrator.standin.ollama import golang
from orchestrator.standin.ollama.requests import Refusal
from orchestrator.standin.ollama.service import RunnerRefusal
from orchestrator.standin.wire import Exchange

JSON = "application/json; charset=utf-8"
BARE = "application/json"
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"
BUFFER = 2048  # Go's server sends a content-length when the whole body fits its buffer
KINDS = {400: "invalid_request_error", 404: "not_found_error"}
V1_KINDS = {**KINDS, 401: "authentication_error"}


async def send(exchange: Exchange, status: int, body: bytes, content_type: str) -> None:
    await exchange.reply(status, body, {"content-type": content_type}, sized=len(body) <= BUFFER)


async def json(exchange: Exchange, value: Any, status: int = 200) -> None:
    await send(exchange, status, golang.dumps(value), JSON)


async def v1_json(exchange: Exchange, value: Any, status: int = 200) -> None:
    await send(exchange, status, golang.dumps(value) + b"\n", BARE)


async def refuse(exchange: Exchange, refusal: Refusal, *, streaming: bool = False) -> None:
    """Answer an error of the native API; one of the runner in a stream has lost its charset and length."""
    body = golang.dumps({"error": refusal.message})
    if streaming and isinstance(refusal, RunnerRefusal):
        await exchange.reply(refusal.status, body, {"content-type": BARE}, sized=False)
    else:
        await send(exchange, refusal.status, body, JSON)


def v1_error(refusal: Refusal) -> Any:
    kind = V1_KINDS.get(refusal.status, "api_error")
    return {"error": {"message": refusal.message, "type": kind, "param": None, "code": None}}


def messages_error(refusal: Refusal) -> Any:
    """Return an error in Anthropic's shape."""
    kind = {503: "overloaded_error"}.get(refusal.status, KINDS.get(refusal.status, "api_error"))
    error = {"type": kind, "message": refusal.message}
    return {"type": "error", "error": error, "request_id": f"req_{secrets.token_hex(12)}"}


async def v1_refuse(
    exchange: Exchange, refusal: Refusal, *, early: bool = False, streaming: bool = False, anthropic: bool = False
) -> None:
    """Answer an error of a /v1 route; `early` ones come from the middleware, before the handler."""
    value = messages_error(refusal) if anthropic else v1_error(refusal)
    if early:
        await json(exchange, value, refusal.status)
    elif streaming and isinstance(refusal, RunnerRefusal):
        await exchange.reply(refusal.status, golang.dumps(value) + b"\n", {"content-type": BARE}, sized=False)
    else:
        await v1_json(exchange, value, refusal.status)
