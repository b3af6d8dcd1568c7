"""One token from an engine: the probe behind the guard's judgement of it."""

from __future__ import annotations

from typing import Any

import aiohttp

from orchestrator.adapter.decide import Engine
from orchestrator.adapter.guard_settings import Settings
from orchestrator.adapter.wire import JSON

REFUSED = "HTTP 502"  # the gateway's own word for an engine to which it cannot connect


def bearer(settings: Settings) -> dict[str, str]:
    """Return the header that opens the gateway's control door."""
    return {"Authorization": f"Bearer {settings.token}"}


async def probe(session: aiohttp.ClientSession, settings: Settings, engine: Engine, target: str) -> str | None:
    """Ask for one token; return None when it came, else why not. A busy engine that says so is alive."""
    if engine.kind == "embedding":
        path = "/v1/embeddings"
        body: JSON = {"model": engine.model, "input": "ping"}
    else:
        message: Any = [{"role": "user", "content": "ping"}]
        path = "/v1/chat/completions"
        body = {"model": engine.model, "messages": message, "max_tokens": 1, "temperature": 0.0}
    limit = aiohttp.ClientTimeout(total=settings.timeout_s)
    # Through the gateway's forced-side route: what is probed is what clients use, and it is on record.
    url = f"{settings.gateway}/side/vllm{path}"
    headers = bearer(settings) | ({"X-Migrate-Replica": target} if engine.replicas else {})
    try:
        async with session.post(url, json=body, headers=headers, timeout=limit) as answer:
            await answer.read()
    except TimeoutError:
        return f"no token within {settings.timeout_s:g} s"
    except aiohttp.ClientError as error:
        return f"{type(error).__name__}: {error}"
    return None if answer.status in {200, 503} else f"HTTP {answer.status}"
