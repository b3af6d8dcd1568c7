"""The door to the engines: one HTTP client, errors told in one way."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from orchestrator.adapter.heard import UNREADABLE, fault_of, loads
from orchestrator.adapter.refusals import EngineFault
from orchestrator.adapter.wire import JSON

# vLLM closes idle connections after 5 s; letting go earlier avoids requests on a connection that dies.
IDLE_S = 3.0
CONNECT_S = 5.0
END_S = 0.5
READ_BYTES = 2**15
_HEADERS = {"Content-Type": "application/json"}


class Engines:
    """Requests to engines; must be created inside the event loop."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S, ttl_dns_cache=2),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            read_bufsize=2**16,
        )

    @property
    def session(self) -> aiohttp.ClientSession:
        return self._session

    async def close(self) -> None:
        await self._session.close()

    @asynccontextmanager
    async def stream(self, url: str, body: JSON) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open a request whose answer is a stream; raises EngineFault for an error before it.

        Leaving the context before the end closes the connection, at which vLLM aborts the generation.
        """
        try:
            response = await self._session.post(url, data=_dump(body), headers=_HEADERS, allow_redirects=False)
        except aiohttp.ClientError as error:
            raise _unreachable(error) from error
        try:
            if response.status != 200:
                raise fault_of(response.status, await _said(response))
            _read_small(response)
            yield response
        finally:
            response.close()

    async def ask(self, url: str, body: JSON) -> JSON:
        """Return the JSON object that answers a request; raises EngineFault for anything else."""
        try:
            question = self._session.post(url, data=_dump(body), headers=_HEADERS, allow_redirects=False)
            async with question as response:
                data = await _read(response)
        except aiohttp.ClientError as error:
            raise _unreachable(error) from error
        if response.status != 200:
            raise fault_of(response.status, data)
        if not isinstance(data, dict):
            raise EngineFault(502, UNREADABLE)
        if data.get("error") is not None:
            raise fault_of(500, data)
        return data


def _dump(body: JSON) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


async def _read(response: aiohttp.ClientResponse) -> Any:
    raw = await response.read()
    try:
        return loads(raw)
    except ValueError:
        return raw.decode("utf-8", "replace")[:500]


async def _said(response: aiohttp.ClientResponse) -> Any:
    """Return the body of a refusal; one that breaks off still has its status."""
    try:
        return await _read(response)
    except aiohttp.ClientError:
        return None


def _unreachable(error: Exception) -> EngineFault:
    return EngineFault(502, f"the engine does not answer: {type(error).__name__}")


def _read_small(response: aiohttp.ClientResponse) -> None:
    """Make asyncio read with a small buffer: its 256 KiB come from the kernel and go back for every word."""
    transport = response.connection.transport if response.connection else None
    if isinstance(getattr(transport, "max_size", None), int):
        transport.max_size = READ_BYTES  # type: ignore[union-attr]


async def finish(response: aiohttp.ClientResponse) -> None:
    """Read the end of an answer that is complete: its connection is kept, unless the engine is slow."""
    with contextlib.suppress(TimeoutError, aiohttp.ClientError, ConnectionError):
        async with asyncio.timeout(END_S):
            await response.read()


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield the bytes of a stream as they come; raises EngineFault when the connection breaks."""
    try:
        async for chunk in response.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, asyncio.IncompleteReadError, ConnectionError) as error:
        raise EngineFault(502, "unexpected EOF") from error
