"""Responses that are no conversation: JSON, refusals in the form of the API that was asked, plain texts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from orchestrator.adapter import anthropic_answer
from orchestrator.adapter.refusals import Refusal, v1_error
from orchestrator.adapter.respond import Refuse, log, unexpected
from orchestrator.adapter.wire import dumps, encode

NATIVE = "application/json; charset=utf-8"
V1 = "application/json"
Handler = Callable[[Request], Awaitable[ASGIApp]]


def refused_native(refusal: Refusal, streams: bool) -> tuple[str, str]:
    """Return content type and body of an error of the native API: where a stream was to begin it has no charset."""
    return (V1 if streams and refusal.of_engine else NATIVE), dumps({"error": refusal.message})


def refused_v1(refusal: Refusal, _: bool) -> tuple[str, str]:
    """Return content type and body of an error of /v1: only what its writer sends ends with a newline."""
    text = dumps(v1_error(refusal.status, refusal.message))
    return (NATIVE, text) if refusal.early else (V1, text + "\n")


def refused_messages(refusal: Refusal, _: bool) -> tuple[str, str]:
    """Return content type and body of an error of /v1/messages."""
    text = dumps(anthropic_answer.error(refusal.status, refusal.message))
    return (NATIVE, text) if refusal.early else (V1, text + "\n")


def refused_on(path: str) -> Refuse:
    """Return how the API of a path says no."""
    if path.startswith("/v1/messages"):
        return refused_messages
    return refused_v1 if path.startswith("/v1/") else refused_native


def guarded(handler: Handler) -> Handler:
    """Answer refusals in the form of the API that was asked."""

    async def run(request: Request) -> ASGIApp:
        path = request.url.path
        try:
            return await handler(request)
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception as error:  # noqa: BLE001  (the last net: a client gets Ollama's form whatever happens)
            refusal = error if isinstance(error, Refusal) else unexpected(error)
            kind, text = refused_on(path)(refusal, getattr(request.state, "streams", False))
            log(path=path, status=refusal.status, outcome="error" if refusal.status >= 500 else "complete")
            return Response(encode(text), refusal.status, headers={"content-type": kind})

    return run


def json_response(value: Any, kind: str = NATIVE, *, status: int = 200, end: str = "") -> Response:
    return Response(encode(dumps(value) + end), status, headers={"content-type": kind})


def plain(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    texts = {404: "404 page not found", 405: "405 method not allowed"}
    headers = {"content-type": "text/plain", **(error.headers or {})}
    return Response(texts.get(error.status_code, error.detail), error.status_code, headers=headers)
