"""The small routes: models, tokens, health, metrics, version."""

from __future__ import annotations

import time
from typing import Any

from orchestrator.standin import text
from orchestrator.standin.vllm import VERSION, checks, respond
from orchestrator.standin.vllm.engine import Engine
from orchestrator.standin.vllm.startlog import identifier
from orchestrator.standin.wire import Exchange

Json = dict[str, Any]
PROMETHEUS = "text/plain; version=1.0.0; charset=utf-8"


async def health(engine: Engine, exchange: Exchange) -> None:
    if engine.fault("hang"):
        await engine.alive()
    await respond.empty(exchange, 503 if engine.dead else 200)


async def ping(engine: Engine, exchange: Exchange) -> None:
    await respond.empty(exchange, 503 if engine.dead else 200)


async def version(_engine: Engine, exchange: Exchange) -> None:
    await respond.json(exchange, {"version": VERSION})


async def load(engine: Engine, exchange: Exchange) -> None:
    await respond.json(exchange, {"server_load": engine.busy if engine.options.load_tracking else 0})


async def kv_sources(_engine: Engine, exchange: Exchange) -> None:
    await respond.json(exchange, {})


async def metrics(engine: Engine, exchange: Exchange) -> None:
    shown = engine.metrics.render(
        running=engine.running,
        waiting=engine.waiting,
        cache_tokens=engine.ready.cache_tokens,
        utilization=engine.options.utilization,
    )
    await exchange.reply(200, shown.encode(), {"content-type": PROMETHEUS, **respond.VARY})


async def models(engine: Engine, exchange: Exchange) -> None:
    now = int(time.time())
    found = [_model(engine, name, now) for name in engine.options.names]
    for name, path in engine.options.modules.items():
        parent = engine.options.names[0]
        found.append({**_model(engine, name, now), "root": path, "parent": parent, "max_model_len": None})
    await respond.json(exchange, {"object": "list", "data": found})


def _model(engine: Engine, name: str, now: int) -> Json:
    permission = {
        "id": identifier("modelperm-"), "object": "model_permission", "created": now, "allow_create_engine": False,
        "allow_sampling": True, "allow_logprobs": True, "allow_search_indices": False, "allow_view": True,
        "allow_fine_tuning": False, "organization": "*", "group": None, "is_blocking": False,
    }  # fmt: skip
    return {
        "id": name, "object": "model", "created": now, "owned_by": "vllm", "root": engine.options.model,
        "parent": None, "max_model_len": engine.ready.max_model_len, "permission": [permission],
    }  # fmt: skip


async def tokenize(engine: Engine, exchange: Exchange) -> None:
    value = checks.decode(exchange.body, exchange.headers.get("content-type", ""), "tokenize")
    checks.model(engine.options, value)
    chat = value.get("messages")
    found = text.tokens(text.render(chat, value.get("tools")) if chat else str(value.get("prompt") or ""))
    strings = [t.replace(" ", "\u0120") for t in found] if value.get("return_token_strs") else None
    head = {"count": len(found), "max_model_len": engine.ready.max_model_len}
    numbers = [text.VOCABULARY.number(t) for t in found]
    await respond.json(exchange, {**head, "tokens": numbers, "token_strs": strings})


async def detokenize(engine: Engine, exchange: Exchange) -> None:
    value = checks.decode(exchange.body, exchange.headers.get("content-type", ""), "detokenize")
    checks.model(engine.options, value)
    await respond.json(exchange, {"prompt": "".join(map(text.VOCABULARY.token, value["tokens"]))})


async def scoring(_engine: Engine, exchange: Exchange) -> None:
    checks.decode(exchange.body, exchange.headers.get("content-type", ""), "scoring")
    raise checks.Refusal("The stand-in does not score.")


async def scale_out(_engine: Engine, _exchange: Exchange) -> None:
    words = "Scale-out endpoints are disabled. Restart vllm serve with --enable-scale-out"
    raise checks.Refusal(words, kind="Forbidden", status=403)
