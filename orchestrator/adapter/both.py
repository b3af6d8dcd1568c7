"""Lists of both sides: what Ollama itself says, with the models that only an engine serves. Without Ollama, those."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.adapter.config import canonical
from orchestrator.adapter.wire import JSON, dumps, encode

WAIT_S = 3.0
AWAY_S = 5.0  # after it did not answer, Ollama is not asked for so long
_KEPT = ("content-type", "vary", "allow")
_DROPPED = frozenset({
    "accept-encoding", "connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding",
    "upgrade", "x-migrate-route", "x-migrate-engine", "x-migrate-replica",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Said:
    """What Ollama answered; the headers are those that a client may see."""

    status: int
    headers: dict[str, str]
    body: bytes

    def response(self) -> Response:
        return Response(self.body, self.status, headers=self.headers)


class Ollama:
    """The other side, asked on behalf of a client: its Origin decides, its answer is passed on."""

    def __init__(self, session: aiohttp.ClientSession, clock: Callable[[], float] = time.monotonic) -> None:
        self._session = session
        self._clock = clock
        self._away_until = 0.0

    async def ask(self, base: str, request: Request, body: bytes = b"") -> Said | None:
        """Return its answer; None when there is no Ollama, or none that answers in time."""
        if not base or self._clock() < self._away_until:
            return None
        headers = {name: value for name, value in request.headers.items() if name not in _DROPPED}
        if "host" in request.headers:
            headers["host"] = request.headers["host"]
        limit = aiohttp.ClientTimeout(total=WAIT_S)
        url = base + request.scope["path"] + (f"?{request.url.query}" if request.url.query else "")
        method = "GET" if request.method == "HEAD" else request.method
        try:
            async with self._session.request(
                method, url, data=body or None, headers=headers, timeout=limit, allow_redirects=False
            ) as answer:
                told = {k.lower(): v for k, v in answer.headers.items()}
                kept = {k: v for k, v in told.items() if k in _KEPT or k.startswith("access-control-")}
                return Said(answer.status, kept, await answer.read())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            self._away_until = self._clock() + AWAY_S
            return None


def merged(said: Said, own: JSON, key: str, named: str) -> Response:
    """Return Ollama's list with our entries that it does not have; anything but a list is passed on as it is.

    `key` holds the list, `named` is the field with a model's name. Sorted as Ollama sorts: the newest first.
    """
    found = _listed(said, key)
    if found is None:
        return said.response()
    there = {canonical(str(entry.get(named, ""))) for entry in found if isinstance(entry, dict)}
    more = [entry for entry in own[key] if canonical(entry[named]) not in there]
    if not more:
        return said.response()
    listed: list[Any] = found + more
    if all(isinstance(entry, dict) and entry.get("modified_at") for entry in listed):
        listed.sort(key=lambda entry: str(entry["modified_at"]), reverse=True)
    value = json.loads(said.body)
    end = "\n" if said.body.endswith(b"\n") else ""
    return Response(encode(dumps({**value, key: listed}) + end), said.status, headers=said.headers)


def _listed(said: Said, key: str) -> list[Any] | None:
    if said.status != 200:
        return None
    try:
        value = json.loads(said.body)
    except (ValueError, RecursionError):
        return None
    found = value.get(key) if isinstance(value, dict) else None
    return found or [] if isinstance(value, dict) and key in value and isinstance(found, list | None) else None
