"""/v1/messages (Anthropic's protocol) and its token count."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from orchestrator.standin import text
from orchestrator.standin.vllm import checks, respond
from orchestrator.standin.vllm.chat import request_id, sequences
from orchestrator.standin.vllm.engine import End, Engine, Params
from orchestrator.standin.wire import Exchange

Json = dict[str, Any]
REASONS = {"length": "max_tokens", "stop": "end_turn"}


def spoken(value: Json) -> list[Json]:
    system = text.plain(value.get("system"))
    return ([{"role": "system", "content": system}] if system else []) + list(value["messages"])


async def count(engine: Engine, exchange: Exchange) -> None:
    value = checks.decode(exchange.body, exchange.headers.get("content-type", ""), "count")
    checks.model(engine.options, value)
    number = text.prompt_tokens(text.render(spoken(value)))
    await respond.json(
        exchange, {"input_tokens": number, "context_management": {"original_input_tokens": number}}
    )  # fmt: skip


async def handle(engine: Engine, exchange: Exchange) -> None:
    value = checks.decode(exchange.body, exchange.headers.get("content-type", ""), "messages")
    checks.model(engine.options, value)
    prompt = text.render(spoken(value))
    inner = {**value, "stop": value.get("stop_sequences")}
    params = sequences(engine, inner, prompt, text.prompt_tokens(prompt), None)[0]
    engine.admit()
    name = request_id(exchange, "chatcmpl-")
    await (_stream if value.get("stream") else _whole)(engine, exchange, name, params)


async def _whole(engine: Engine, exchange: Exchange, name: str, params: Params) -> None:
    answer, end = "", End("stop", 0)
    events = engine.generate(params)
    async with aclosing(events):
        async for token in events:
            answer += token.text
            end = token.end or end
    await respond.json(
        exchange,
        {
            "id": name,
            "type": "message",
            "role": "assistant",
            "content": [{"type": "text", "text": answer}],
            "model": engine.options.names[0],
            "stop_reason": REASONS[end.reason],
            "usage": {"input_tokens": params.prompt_tokens, "output_tokens": end.tokens},
        },
    )


async def _stream(engine: Engine, exchange: Exchange, name: str, params: Params) -> None:
    async def send(kind: str, **fields: Any) -> None:
        await respond.event(exchange, {"type": kind, **fields}, kind)

    end = End("stop", 0)
    message: Json = {
        "id": name, "type": "message", "role": "assistant", "content": [], "model": engine.options.names[0],
        "stop_reason": None, "stop_sequence": None,
        "usage": {"input_tokens": params.prompt_tokens, "output_tokens": 0},
    }  # fmt: skip
    await respond.begin(exchange)
    await send("message_start", message=message)
    await send("content_block_start", content_block={"type": "text", "text": ""}, index=0)
    events = engine.generate(params)
    async with aclosing(events):
        async for token in events:
            end = token.end or end
            await send("content_block_delta", delta={"type": "text_delta", "text": token.text}, index=0)
    await send("content_block_stop", index=0)
    usage = {"input_tokens": params.prompt_tokens, "output_tokens": end.tokens}
    await send("message_delta", delta={"stop_reason": REASONS[end.reason], "stop_sequence": None}, usage=usage)
    await send("message_stop")
    await exchange.end()
