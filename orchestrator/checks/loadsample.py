"""One request of a load test: how it was sent, and what is kept of it once its level is over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from orchestrator.clients.answers import Answer, read_stream
from orchestrator.clients.wire import Exchange


@dataclass
class Shot:
    """One request as it was sent; `exchange` holds stamps and bytes, read after the level."""

    intended_ns: int
    exchange: Exchange | None = None
    failure: httpx.HTTPError | None = None
    ended_ns: int = 0


def sample_of(shot: Shot, start: int) -> dict[str, Any]:
    """One request as plain data: microseconds since its send stamp, `at_us` and `end_us` since the level's start."""
    exchange = shot.exchange
    answer = read_stream(exchange.status, exchange.pieces) if exchange else Answer(0)
    sent = exchange.sent_ns if exchange else shot.intended_ns
    if exchange:
        exchange.pieces.clear()
    return {
        "at_us": (sent - start) // 1000,
        "end_us": (shot.ended_ns - start) // 1000,
        "send_lag_us": (sent - shot.intended_ns) // 1000,
        "headers_us": (exchange.headers_ns - sent) // 1000 if exchange else None,
        "token_us": [(stamp - sent) // 1000 for stamp in answer.stamps],
        "last_us": (answer.last_ns - sent) // 1000 if answer.last_ns else None,
        "outcome": _outcome(shot, answer),
        "status": answer.status,
        "error": answer.error or (str(shot.failure) or type(shot.failure).__name__ if shot.failure else None),
        "finish_reason": answer.finish_reason,
        "prompt_tokens": answer.prompt_tokens,
        "output_tokens": answer.output_tokens,
        "retried": bool(exchange and exchange.retried),
    }


def _outcome(shot: Shot, answer: Answer) -> str:
    """complete, error, truncated, refused; timeouts are a class of their own."""
    if isinstance(shot.failure, (httpx.ConnectError, httpx.ConnectTimeout)):
        return "refused"
    if isinstance(shot.failure, httpx.TimeoutException):
        return "timeout"
    if shot.failure is not None:
        return "truncated" if shot.exchange else "error"
    return answer.ending
