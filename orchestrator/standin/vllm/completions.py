"""/v1/completions."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import Any

from orchestrator.standin import text
from orchestrator.standin.vllm import FINGERPRINT, checks, respond
from orchestrator.standin.vllm.chat import counts, request_id, sequences, token_id
from orchestrator.standin.vllm.engine import End, Engine, Params, Token
from orchestrator.standin.wire import Exchange

Json = dict[str, Any]
DEFAULT_TOKENS = 16
NO_SUFFIX = "suffix is only supported for models with FIM completion rendering"


def prompts(value: Json) -> list[tuple[str, int]]:
    """Return the prompts with their token counts; token ids are spelled out."""
    given = value.get("prompt")
    if not given:
        raise checks.bad("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")
    if isinstance(given, str):
        return [(given, text.count(given))]
    if all(isinstance(p, int) for p in given):
        return [(" ".join(map(str, given)), len(given))]
    return [(p, text.count(p)) if isinstance(p, str) else (" ".join(map(str, p)), len(p)) for p in given]


async def handle(engine: Engine, exchange: Exchange) -> None:
    value = checks.decode(exchange.body, exchange.headers.get("content-type", ""), "completion")
    checks.model(engine.options, value)
    if value.get("suffix"):
        raise checks.Refusal(NO_SUFFIX, param="suffix")
    found: list[Params] = []
    for prompt, number in prompts(value):
        found += sequences(engine, value, prompt, number, DEFAULT_TOKENS)
    name = request_id(exchange, "cmpl-")
    engine.admit()
    await (_stream if value.get("stream") else _whole)(engine, exchange, name, value, found)


def _logprobs(tokens: list[str], wanted: Any) -> Json | None:
    if wanted is None:
        return None
    offsets = [sum(map(len, tokens[:i])) for i in range(len(tokens))]
    return {
        "text_offset": offsets,
        "token_logprobs": [text.logprob(t) for t in tokens],
        "tokens": tokens,
        "top_logprobs": [dict(text.rivals(t, max(1, wanted))) for t in tokens],
    }


async def _whole(engine: Engine, exchange: Exchange, name: str, value: Json, params: list[Params]) -> None:
    choices, total = [], 0
    for index, one in enumerate(params):
        spoken, raw, end = "", [], End("stop", 0)
        events = engine.generate(one)
        async with aclosing(events):
            async for token in events:
                spoken += token.text
                raw.append(token.raw)
                end = token.end or end
        total += end.tokens
        choices.append(
            {
                "index": index, "text": (one.prompt if value.get("echo") else "") + spoken,
                "logprobs": _logprobs(raw, value.get("logprobs")), "finish_reason": end.reason,
                "stop_reason": end.stop, "token_ids": None, "prompt_logprobs": None, "prompt_token_ids": None,
                "routed_experts": None,
            }
        )  # fmt: skip
    usage = counts(sum(p.prompt_tokens for p in params), total)
    details = {"prompt_tokens_details": None, "completion_tokens_details": None}
    await respond.json(
        exchange,
        {
            "id": name, "object": "text_completion", "created": int(time.time()),
            "model": engine.options.named(value.get("model")),
            "choices": choices, "service_tier": None, "system_fingerprint": FINGERPRINT, "usage": usage | details,
            "kv_transfer_params": None, "ec_transfer_params": None, "metrics": None,
        },
    )  # fmt: skip


async def _stream(engine: Engine, exchange: Exchange, name: str, value: Json, params: list[Params]) -> None:
    head = {
        "id": name,
        "object": "text_completion",
        "created": int(time.time()),
        "model": engine.options.named(value.get("model")),
    }
    await respond.begin(exchange)
    total = 0
    with_usage = bool((value.get("stream_options") or {}).get("include_usage"))
    for index, one in enumerate(params):
        first = _choice(index, Token(""), value)
        if value.get("return_token_ids") is True:
            given = value.get("prompt")
            words = text.tokens(one.prompt)
            first["prompt_token_ids"] = given if isinstance(given, list) else [token_id(word) for word in words]
        await respond.event(exchange, {**head, "choices": [first]})
        events = engine.generate(one)
        async with aclosing(events):
            async for token in events:
                total += 1
                tail = {"system_fingerprint": FINGERPRINT} if token.end and not with_usage else {}
                await respond.event(exchange, {**head, "choices": [_choice(index, token, value)], **tail})
    if with_usage:
        usage = counts(sum(p.prompt_tokens for p in params), total)
        await respond.event(exchange, {**head, "choices": [], "usage": usage, "system_fingerprint": FINGERPRINT})
    await exchange.end(b"data: [DONE]\n\n")


def _choice(index: int, token: Token, value: Json) -> Json:
    return {
        "index": index,
        "text": token.text,
        "logprobs": _logprobs([token.raw], value.get("logprobs")) if token.raw else None,
        "finish_reason": token.end.reason if token.end else None,
        "stop_reason": token.end.stop if token.end else None,
        "prompt_token_ids": None,
        "token_ids": [token_id(token.raw)] if token.raw and value.get("return_token_ids") is True else None,
    }
