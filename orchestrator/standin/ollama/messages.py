"""/v1/messages: Anthropic's route."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from orchestrator.standin.ollama import golang, openai, respond
from orchestrator.standin.ollama.generate import Done, Piece
from orchestrator.standin.ollama.requests import Refusal
from orchestrator.standin.ollama.service import Event, Service
from orchestrator.standin.wire import Exchange

Json = dict[str, Any]
STREAM_HEADERS = {"cache-control": "no-cache", "connection": "keep-alive", "content-type": respond.SSE}
REASONS = {"length": "max_tokens", "stop": "end_turn"}


def spoken(request: Json) -> list[Json]:
    found: list[Json] = []
    system = request.get("system")
    if isinstance(system, list):
        system = "".join(p.get("text", "") for p in system)
    if system:
        found.append({"role": "system", "content": system})
    for message in request["messages"]:
        content = message.get("content")
        if not isinstance(content, list):
            found.append({"role": message.get("role"), "content": content or ""})
            continue
        texts = [p.get("text", "") for p in content if p.get("type") == "text"]
        images = [p["source"].get("data") for p in content if p.get("type") == "image"]
        found.append({"role": message.get("role"), "content": "".join(texts), **({"images": images} if images else {})})
    return found


def native_request(request: Json) -> Json:
    if not request.get("model"):
        raise Refusal(400, "model is required")
    if (request.get("max_tokens") or 0) <= 0:
        raise Refusal(400, "max_tokens is required and must be positive")
    if not request.get("messages"):
        raise Refusal(400, "messages is required")
    passed = {k: request[k] for k in ("temperature", "top_p", "top_k") if request.get(k) is not None}
    options: Json = {**passed, "num_predict": request["max_tokens"]}
    if request.get("stop_sequences"):
        options["stop"] = request["stop_sequences"]
    tools = [{"type": "function", "function": t} for t in request.get("tools") or []]
    thinking = (request.get("thinking") or {}).get("type")
    return {
        "model": request["model"],
        "messages": spoken(request),
        "options": options,
        "tools": tools or None,
        "think": True if thinking == "enabled" else None,
    }


def head(name: str) -> Json:
    return {"id": f"msg_{secrets.token_hex(12)}", "type": "message", "role": "assistant", "model": name}


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: ".encode() + golang.dumps({"type": kind, **fields}) + b"\n\n"


async def handle(service: Service, exchange: Exchange) -> None:
    try:
        request = openai.v1_request(exchange, "MessagesRequest")
        inner = native_request(request)
    except Refusal as refusal:
        await respond.v1_refuse(exchange, refusal, early=True, anthropic=True)
        return
    try:
        job = service.chat(inner)
        events = service.run(job, exchange.loaded)
        async with aclosing(events):
            await (_stream if request.get("stream") else _whole)(exchange, job.name, events)
    except Refusal as refusal:
        if exchange.started:
            await exchange.end()
        else:
            await respond.v1_refuse(exchange, refusal, anthropic=True)


def tool_use(call: Json) -> Json:
    return {"type": "tool_use", "id": f"call_{secrets.token_hex(4)}", "name": call["name"], "input": call["arguments"]}


def usage(done: Done | None) -> Json:
    return {"input_tokens": done.prompt_tokens if done else 0, "output_tokens": done.tokens if done else 0}


async def _whole(exchange: Exchange, name: str, events: AsyncIterator[Event]) -> None:
    answer, thinking = "", ""
    calls: list[Json] = []
    done: Done | None = None
    async for item in events:
        if isinstance(item, Piece) and item.call:
            calls.append(tool_use(item.call))
        elif isinstance(item, Piece):
            answer += "" if item.thinking else item.text
            thinking += item.text if item.thinking else ""
        elif isinstance(item, Done):
            done = item
    content: list[Json] = [{"type": "thinking", "thinking": thinking}] if thinking else []
    if answer:
        content.append({"type": "text", "text": answer})
    content += calls
    reason = "tool_use" if calls else REASONS.get(done.reason if done else "", "end_turn")
    await respond.v1_json(exchange, {**head(name), "content": content, "stop_reason": reason, "usage": usage(done)})


async def _stream(exchange: Exchange, name: str, events: AsyncIterator[Event]) -> None:
    block = {"type": "text", "text": ""}
    done: Done | None = None
    async for item in events:
        if isinstance(item, Piece) and not item.thinking:
            if not exchange.started:
                await exchange.start(200, STREAM_HEADERS)
                begun = {**head(name), "content": [], "usage": usage(None)}
                await exchange.write(event("message_start", message=begun))
                await exchange.write(event("content_block_start", index=0, content_block=block))
            delta = {"type": "text_delta", "text": item.text}
            await exchange.write(event("content_block_delta", index=0, delta=delta))
        elif isinstance(item, Done):
            done = item
    if not exchange.started:
        await exchange.start(200, STREAM_HEADERS)
    reason = REASONS.get(done.reason, "end_turn") if done else "end_turn"
    await exchange.write(event("content_block_stop", index=0))
    await exchange.write(event("message_delta", delta={"stop_reason": reason}, usage=usage(done)))
    await exchange.end(event("message_stop"))
