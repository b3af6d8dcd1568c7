"""Texts from a real engine: the stand-in Ollama passes a request on to a vLLM that has the same weights.

So both sides of a migration answer from one model, and comparing them means something.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

Json = dict[str, Any]


class BackendError(Exception):
    """The engine behind the stand-in refused or failed; carries its text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Backend:
    """One vLLM, by its base URL."""

    def __init__(self, base: str) -> None:
        self.base = base
        self._session: aiohttp.ClientSession | None = None
        self._model = ""

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, connect=10)
            self._session = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0))
        return self._session

    async def model(self) -> str:
        """Return the name of the model that the engine serves."""
        if not self._model:
            async with self._client().get(f"{self.base}/v1/models") as answer:
                self._model = str((await answer.json())["data"][0]["id"])
        return self._model

    async def stream(self, path: str, body: Json) -> AsyncIterator[Json]:
        """Yield the events of a streamed request; raises BackendError for an error at any moment."""
        body = {**body, "model": await self.model(), "stream": True, "stream_options": {"include_usage": True}}
        async with self._client().post(self.base + path, json=body) as answer:
            if answer.status != 200:
                raise BackendError(answer.status, await _message(answer))
            async for line in answer.content:
                data = line.decode().strip().removeprefix("data: ")
                if data and data != "[DONE]":
                    event: Json = json.loads(data)
                    if "error" in event:
                        raise BackendError(500, str(event["error"].get("message", "")))
                    yield event

    async def post(self, path: str, body: Json) -> Json:
        body = {**body, "model": await self.model()}
        async with self._client().post(self.base + path, json=body) as answer:
            if answer.status != 200:
                raise BackendError(answer.status, await _message(answer))
            value: Json = await answer.json()
            return value

    async def close(self) -> None:
        if self._session:
            await self._session.close()


async def _message(answer: aiohttp.ClientResponse) -> str:
    try:
        return str((await answer.json())["error"]["message"])
    except (ValueError, KeyError, TypeError, aiohttp.ContentTypeError):
        return f"status {answer.status}"
