"""One request of a load test: how it was sent, and what is kept of it once its level is over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx

from orchestrator.checks.loadspool import Kept, Piece
from orchestrator.clients.answers import Answer, read_stream
from orchestrator.clients.wire import Exchange


@dataclass(eq=False)
class Shot:
    """One request as it was sent; `kept` holds stamps and bytes, read after the level.

    `intended_ns`: when it was to be sent: an open loop's schedule, or the moment a user of a closed one was free.
    """

    intended_ns: int
    key: str = ""
    kept: Kept = field(default_factory=Kept)
    exchange: Exchange | None = None
    failure: httpx.HTTPError | None = None
    ended_ns: int = 0


def sample_of(shot: Shot, start: int, pieces: Iterable[Piece]) -> dict[str, Any]:
    """One request as plain data: microseconds since its send stamp, `at_us` and `end_us` since the level's start.

    `send_lag_us`: how long after it was due it left. Its due time is `at_us - send_lag_us`.
    """
    exchange = shot.exchange
    answer = read_stream(exchange.status, pieces) if exchange else Answer(0)
    sent = exchange.sent_ns if exchange else shot.intended_ns
    return {
        "key": shot.key,
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
        "cached_tokens": answer.cached_tokens,
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
