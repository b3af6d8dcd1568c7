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


def function(tool: Json) -> Json:
    """Return a tool as the native API names its parts."""
    known = {"name": tool.get("name"), "description": tool.get("description", "")}
    return {**known, "parameters": tool.get("input_schema") or {}}


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
    tools = [{"type": "function", "function": function(t)} for t in request.get("tools") or []]
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
        model = service.store.get(inner["model"])
        if model and not model.can("thinking"):
            inner["think"] = None  # relaxed on this route alone, for tools that always ask for it
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


class Blocks:
    """Opens and closes the blocks of a streamed answer, numbered as they come."""

    def __init__(self) -> None:
        self.index = 0
        self.kind = ""

    def delta(self, kind: str, said: str) -> bytes:
        """Return the events of a piece of text or thinking."""
        head = b""
        if self.kind != kind:
            head = self.close() + self._event("start", content_block={"type": kind, kind: ""})
            self.kind = kind
        return head + self._event("delta", delta={"type": f"{kind}_delta", kind: said})

    def call(self, block: Json) -> bytes:
        """Return the events of a whole call of a tool."""
        head = self.close() + self._event("start", content_block={**block, "input": {}})
        self.kind = "tool_use"
        arguments = golang.dumps(block["input"]).decode()
        return head + self._event("delta", delta={"type": "input_json_delta", "partial_json": arguments}) + self.close()

    def close(self) -> bytes:
        """Return the end of the open block, if there is one."""
        if not self.kind:
            return b""
        ended = self._event("stop")
        self.kind, self.index = "", self.index + 1
        return ended

    def _event(self, moment: str, **fields: Any) -> bytes:
        return event(f"content_block_{moment}", index=self.index, **fields)


async def _stream(exchange: Exchange, name: str, events: AsyncIterator[Event]) -> None:
    blocks, called = Blocks(), False
    done: Done | None = None
    async for item in events:
        if not exchange.started and isinstance(item, Piece | Done):
            await exchange.start(200, STREAM_HEADERS)
            await exchange.write(event("message_start", message={**head(name), "content": [], "usage": usage(None)}))
        if isinstance(item, Piece) and item.call:
            called = True
            await exchange.write(blocks.call(tool_use(item.call)))
        elif isinstance(item, Piece) and item.text:
            await exchange.write(blocks.delta("thinking" if item.thinking else "text", item.text))
        elif isinstance(item, Done):
            done = item
    if not exchange.started:
        await exchange.start(200, STREAM_HEADERS)
    reason = REASONS.get(done.reason, "end_turn") if done else "end_turn"
    await exchange.write(blocks.close())
    stop = {"stop_reason": "tool_use" if called else reason}
    await exchange.write(event("message_delta", delta=stop, usage=usage(done)))
    await exchange.end(event("message_stop"))
