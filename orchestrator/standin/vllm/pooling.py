"""/v1/embeddings, on servers that were started for it."""

from __future__ import annotations

import base64
import struct
import time
from typing import Any

from orchestrator.standin import text
from orchestrator.standin.vllm import checks, respond
from orchestrator.standin.vllm.chat import counts
from orchestrator.standin.vllm.engine import Engine
from orchestrator.standin.vllm.startlog import identifier
from orchestrator.standin.wire import Exchange

Json = dict[str, Any]


def inputs(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if value and all(isinstance(v, int) for v in value):
        return [" ".join(map(str, value))]
    return [v if isinstance(v, str) else " ".join(map(str, v)) for v in value]


async def handle(engine: Engine, exchange: Exchange) -> None:
    value = checks.decode(exchange.body, exchange.headers.get("content-type", ""), "embedding")
    checks.model(engine.options, value, aliases=False)
    name = engine.options.names[0]
    if value.get("dimensions"):
        asked = value["dimensions"]
        raise checks.Refusal(
            f"Model '{name}' does not support Matryoshka embeddings; dimensions must be unset "
            f"(received dimensions={asked})."
        )
    texts = inputs(value["input"])
    longest = engine.ready.max_model_len
    for one in texts:
        if value.get("truncate_prompt_tokens") is None:
            checks.length(one, text.count(one), longest)
    engine.admit()
    tokens = sum(min(text.count(t), longest) for t in texts)
    await engine.embed(tokens)
    packed = value.get("encoding_format") == "base64"
    data = [
        {"index": i, "object": "embedding", "embedding": _shown(text.vector(t), packed=packed)}
        for i, t in enumerate(texts)
    ]
    usage = {**counts(tokens, 0), "prompt_tokens_details": None, "completion_tokens_details": None}
    head = {"id": identifier("embd-"), "object": "list", "created": int(time.time()), "model": name}
    await respond.json(exchange, {**head, "data": data, "usage": usage})


def _shown(values: list[float], *, packed: bool) -> Any:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode() if packed else values
