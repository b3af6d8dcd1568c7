"""/v1/responses: OpenAI's newer route, without stored state."""

from __future__ import annotations

import random
import secrets
import time
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


def spoken(request: Json) -> list[Json]:
    """Return the conversation that `instructions` and `input` make."""
    found: list[Json] = []
    if request.get("instructions"):
        found.append({"role": "system", "content": request["instructions"]})
    given = request.get("input")
    if isinstance(given, str) and given:
        found.append({"role": "user", "content": given})
    for item in given if isinstance(given, list) else []:
        content = item.get("content")
        if isinstance(content, list):
            for part in content:
                if part.get("type") == "input_image":
                    found.append({"role": item.get("role"), "images": [part.get("image_url")]})
                else:
                    found.append({"role": item.get("role"), "content": part.get("text", "")})
        elif content is not None:
            found.append({"role": item.get("role"), "content": content})
    return found


def native_request(request: Json) -> Json:
    wanted = (request.get("text") or {}).get("format") or {}
    tools = [{"type": "function", "function": t} for t in request.get("tools") or []]
    reasoning = {"reasoning": request.get("reasoning")}
    return {
        "model": request.get("model"),
        "messages": spoken(request),
        "options": openai.sampling({**request, "max_tokens": request.get("max_output_tokens")}),
        "format": wanted.get("schema") if wanted.get("type") == "json_schema" else None,
        "tools": tools or None,
        "think": openai.effort(reasoning),
    }


class Writer:
    """Words one answer; field order as the real server's."""

    def __init__(self, request: Json, model: str) -> None:
        self.request = request
        self.model = model
        self.id = f"resp_{random.randrange(999_999)}"
        self.item_id = f"msg_{random.randrange(999_999)}"
        self.created = int(time.time())
        self._sequence = 0

    def item(self, answer: str, status: str, *, parts: bool = True) -> Json:
        content = [{"type": "output_text", "text": answer, "annotations": [], "logprobs": []}] if parts else []
        return {"id": self.item_id, "type": "message", "status": status, "role": "assistant", "content": content}

    def whole(self, status: str, output: list[Json], done: Done | None) -> Json:
        request = self.request
        tools = [{"strict": None, **t} for t in request.get("tools") or []]
        finished = status == "completed"
        return {
            "id": self.id, "object": "response", "created_at": self.created,
            "completed_at": int(time.time()) if finished else None, "status": status, "incomplete_details": None,
            "model": self.model, "previous_response_id": None,
            "instructions": request.get("instructions"), "output": output, "error": None, "tools": tools,
            "tool_choice": "auto", "truncation": "disabled", "parallel_tool_calls": True,
            "text": request.get("text") or {"format": {"type": "text"}}, "top_p": request.get("top_p", 1),
            "presence_penalty": 0, "frequency_penalty": 0, "top_logprobs": 0,
            "temperature": request.get("temperature", 1), "reasoning": request.get("reasoning"),
            "usage": usage(done) if finished else None, "max_output_tokens": request.get("max_output_tokens"),
            "max_tool_calls": None, "store": False, "background": False, "service_tier": "default", "metadata": {},
            "safety_identifier": None, "prompt_cache_key": None,
        }  # fmt: skip

    def event(self, kind: str, **fields: Any) -> bytes:
        body = {**fields, "sequence_number": self._sequence, "type": kind}
        self._sequence += 1
        return f"event: {kind}\ndata: ".encode() + golang.dumps(dict(sorted(body.items()))) + b"\n\n"

    def snapshot(self, kind: str, status: str, output: list[Json], done: Done | None) -> bytes:
        """Return an event with the whole response in it; a stream leaves completed output's usage to the end."""
        response = self.whole(status, output, done)
        return self.event(kind, response=dict(sorted(response.items())))


def call_item(call: Json, status: str) -> Json:
    arguments = golang.dumps(call["arguments"]).decode() if status == "completed" else ""
    number = random.randrange(999_999)
    return {
        "id": f"fc_{number}_0", "type": "function_call", "status": status, "call_id": f"call_{secrets.token_hex(4)}",
        "name": call["name"], "arguments": arguments,
    }  # fmt: skip


def usage(done: Done | None) -> Json:
    prompt, answer = (done.prompt_tokens, done.tokens) if done else (0, 0)
    return {
        "input_tokens": prompt,
        "output_tokens": answer,
        "total_tokens": prompt + answer,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }


async def handle(service: Service, exchange: Exchange) -> None:
    try:
        request = openai.v1_request(exchange, "ResponsesRequest")
        inner = native_request(request)
    except Refusal as refusal:
        await respond.v1_refuse(exchange, refusal, early=True)
        return
    streaming = bool(request.get("stream"))
    try:
        job = service.chat(inner)
        events = service.run(job, exchange.loaded)
        writer = Writer(request, job.name)
        async with aclosing(events):
            await (_stream if streaming else _whole)(exchange, writer, events)
    except Refusal as refusal:
        if exchange.started:
            await exchange.end()
        else:
            await respond.v1_refuse(exchange, refusal, streaming=streaming)


async def _whole(exchange: Exchange, writer: Writer, events: AsyncIterator[Event]) -> None:
    answer, done, call = "", None, None
    async for event in events:
        if isinstance(event, Piece) and event.call:
            call = event.call
        elif isinstance(event, Piece):
            answer += "" if event.thinking else event.text
        elif isinstance(event, Done):
            done = event
    output = [call_item(call, "completed")] if call else [writer.item(answer, "completed")]
    await respond.v1_json(exchange, writer.whole("completed", output, done))


async def _stream(exchange: Exchange, writer: Writer, events: AsyncIterator[Event]) -> None:
    answer, done, call = "", None, None
    async for event in events:
        if isinstance(event, Piece) and event.call:
            call = event.call
        elif isinstance(event, Piece) and event.text and not event.thinking:
            answer += event.text
            await _open(exchange, writer)
            place = {"item_id": writer.item_id, "output_index": 0, "content_index": 0, "logprobs": []}
            await exchange.write(writer.event("response.output_text.delta", delta=event.text, **place))
        elif isinstance(event, Done):
            done = event
    if call:
        await _stream_call(exchange, writer, call, done)
        return
    await _open(exchange, writer)
    place = {"item_id": writer.item_id, "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": answer, "annotations": [], "logprobs": []}
    item = writer.item(answer, "completed")
    await exchange.write(writer.event("response.output_text.done", text=answer, logprobs=[], **place))
    await exchange.write(writer.event("response.content_part.done", part=part, **place))
    await exchange.write(writer.event("response.output_item.done", item=item, output_index=0))
    await exchange.end(writer.snapshot("response.completed", "completed", [item], done))


async def _stream_call(exchange: Exchange, writer: Writer, call: Json, done: Done | None) -> None:
    """Send an answer that is a call of a tool and nothing else."""
    await _begin(exchange, writer)
    item = call_item(call, "completed")
    opening = {**item, "status": "in_progress", "arguments": ""}
    place = {"item_id": item["id"], "output_index": 0}
    await exchange.write(writer.event("response.output_item.added", item=opening, output_index=0))
    spoken = item["arguments"]
    await exchange.write(writer.event("response.function_call_arguments.delta", delta=spoken, **place))
    await exchange.write(writer.event("response.function_call_arguments.done", arguments=spoken, **place))
    await exchange.write(writer.event("response.output_item.done", item=item, output_index=0))
    await exchange.end(writer.snapshot("response.completed", "completed", [item], done))


async def _begin(exchange: Exchange, writer: Writer) -> None:
    await exchange.start(200, STREAM_HEADERS)
    for kind in ("response.created", "response.in_progress"):
        await exchange.write(writer.snapshot(kind, "in_progress", [], None))


async def _open(exchange: Exchange, writer: Writer) -> None:
    """Begin the stream with the events that come before the first text."""
    if exchange.started:
        return
    await _begin(exchange, writer)
    place = {"item_id": writer.item_id, "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    item = writer.item("", "in_progress", parts=False)
    await exchange.write(writer.event("response.output_item.added", item=item, output_index=0))
    await exchange.write(writer.event("response.content_part.added", part=part, **place))
