"""/v1/chat/completions and /v1/completions: Ollama's middleware around its own routes."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from orchestrator.standin.backend import Backend
from orchestrator.standin.ollama import golang, native, respond
from orchestrator.standin.ollama.generate import Done, Piece, rendered
from orchestrator.standin.ollama.requests import Refusal, decode
from orchestrator.standin.ollama.service import Event, Job, Service
from orchestrator.standin.wire import Exchange

Json = dict[str, Any]
EFFORTS = ("minimal", "low", "medium", "high", "xhigh", "ultra", "max", "none")
NO_URLS = "image URLs are not currently supported, please use base64 encoded data instead"
NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def v1_request(exchange: Exchange, struct: str) -> Json:
    return decode(exchange.body, struct, "openai")


def sampling(request: Json) -> Json:
    """Return the options that /v1 always sets; temperature and top_p override the Modelfile."""
    options: Json = {"temperature": 1.0, "top_p": 1.0}
    for key in ("temperature", "top_p", "frequency_penalty", "presence_penalty", "seed"):
        value = request.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            options[key] = value
    stop = request.get("stop")
    if isinstance(stop, str):
        options["stop"] = [stop]
    elif isinstance(stop, list):
        options["stop"] = [s for s in stop if isinstance(s, str)]
    if request.get("max_tokens") is not None:
        options["num_predict"] = request["max_tokens"]
    return options


def _image(url: Any) -> str:
    link = url.get("url", "") if isinstance(url, dict) else str(url)
    if link.startswith(("http://", "https://")):
        raise Refusal(400, NO_URLS)
    if not link.startswith("data:"):
        raise Refusal(400, "invalid image input")
    return str(link.partition(",")[2])


def conversation(messages: Any) -> list[Json]:
    """Return native messages; a list of parts becomes one message for each part."""
    found: list[Json] = []
    for message in messages:
        if not isinstance(message, dict):
            raise Refusal(400, f"invalid message type: {golang.kind(message)}")
        role, content = message.get("role", ""), message.get("content")
        kept = {"tool_calls": message["tool_calls"]} if message.get("tool_calls") else {}
        if isinstance(content, list):
            for part in content:
                kind = part.get("type") if isinstance(part, dict) else None
                if kind == "image_url":
                    found.append({"role": role, "images": [_image(part.get("image_url"))]})
                elif kind == "text":
                    found.append({"role": role, "content": part.get("text", "")})
                else:
                    raise Refusal(400, "invalid message format")
        elif content is None or isinstance(content, str):
            found.append({"role": role, "content": content or "", **kept})
        else:
            raise Refusal(400, "invalid message content type: float64")
    return found


def effort(request: Json) -> Any:
    """Return the native `think` that a request's reasoning effort means."""
    value = request.get("reasoning_effort")
    if value is None and isinstance(request.get("reasoning"), dict):
        value = request["reasoning"].get("effort")
    if value is None:
        return None
    if value not in EFFORTS:
        allowed = ", ".join(f'"{e}"' for e in EFFORTS[:-1])
        raise Refusal(400, f'invalid reasoning value: "{value}" (must be {allowed}, or "none")')
    return False if value == "none" else {"minimal": "low", "xhigh": "max", "ultra": "max"}.get(value, value)


def response_format(request: Json) -> Any:
    wanted = request.get("response_format")
    if not isinstance(wanted, dict):
        return None
    if wanted.get("type") == "json_object":
        return "json"
    if wanted.get("type") == "json_schema":
        return (wanted.get("json_schema") or {}).get("schema")
    return None


def chat_request(request: Json) -> Json:
    """Return the native chat request that the middleware makes of an OpenAI one."""
    if not request.get("messages"):
        raise Refusal(400, "[] is too short - 'messages'")
    native_request: Json = {
        "model": request.get("model"),
        "messages": conversation(request["messages"]),
        "options": sampling(request),
        "format": response_format(request),
        "think": effort(request),
        "tools": request.get("tools"),
        "logprobs": request.get("logprobs"),
        "top_logprobs": request.get("top_logprobs") if request.get("logprobs") else 0,
    }
    return {**native_request, "_debug_render_only": request.get("_debug_render_only")}


def generate_request(request: Json) -> Json:
    return {"model": request.get("model"), "prompt": request.get("prompt"), "options": sampling(request)}


class Writer:
    """Words the events of one answer; `chat` or text completion."""

    def __init__(self, job: Job, *, chat: bool, usage: bool) -> None:
        self.job = job
        self.chat = chat
        self.usage = usage
        self.number = random.randrange(999)
        self.first = True
        self.called = False

    def head(self, *, chunk: bool) -> Json:
        kind = ("chat.completion.chunk" if chunk else "chat.completion") if self.chat else "text_completion"
        return {
            "id": f"{'chatcmpl' if self.chat else 'cmpl'}-{self.number}",
            "object": kind,
            "created": int(time.time()),
            "model": self.job.name,
            "system_fingerprint": "fp_ollama",
        }

    def chunk(self, delta: Json, reason: str | None, probabilities: list[Json] | None = None) -> Json:
        if not self.chat:
            choice: Json = {"text": delta.get("content", ""), "index": 0, "finish_reason": reason}
            return {**self.head(chunk=True), "choices": [choice], **({"usage": NO_USAGE} if self.usage else {})}
        if self.first:
            self.first = False
            delta = {"role": "assistant", **delta}
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        if probabilities:
            choice["logprobs"] = {"content": probabilities}
        return {**self.head(chunk=True), "choices": [choice]}

    def piece(self, piece: Piece) -> Json:
        if piece.call:
            self.called = True
            return self.chunk({"content": "", "tool_calls": [tool_call(piece.call)]}, None)
        rivals = self.job.ask.logprobs
        found = [native.logprobs(piece.token, rivals, self.job.ask.temperature)] if rivals is not None else None
        if piece.thinking:
            return self.chunk({"content": "", "reasoning": piece.text}, None, found)
        return self.chunk({"content": piece.text}, None, found)

    def final(self, done: Done) -> list[Json]:
        events = [self.chunk({}, "tool_calls" if self.called else done.reason)]
        if self.usage:
            events.append({**self.head(chunk=True), "choices": [], "usage": counts(done)})
        return events


def tool_call(call: Json) -> Json:
    """Return a tool call in OpenAI's form; its arguments are a string."""
    function = {"name": call["name"], "arguments": golang.dumps(call["arguments"]).decode()}
    return {"id": f"call_{secrets.token_hex(4)}", "index": 0, "type": "function", "function": function}


def counts(done: Done | None) -> Json:
    if done is None:
        return NO_USAGE
    total = done.prompt_tokens + done.tokens
    return {"prompt_tokens": done.prompt_tokens, "completion_tokens": done.tokens, "total_tokens": total}


async def handle(service: Service, exchange: Exchange, *, chat: bool) -> None:
    try:
        request = v1_request(exchange, "ChatCompletionRequest" if chat else "CompletionRequest")
        inner = chat_request(request) if chat else generate_request(request)
    except Refusal as refusal:
        await respond.v1_refuse(exchange, refusal, early=True)
        return
    streaming = bool(request.get("stream"))
    try:
        job = service.chat(inner) if chat else service.generate(inner)
        usage = bool((request.get("stream_options") or {}).get("include_usage"))
        writer = Writer(job, chat=chat, usage=usage)
        events = service.run(job, exchange.loaded)
        async with aclosing(events):
            if streaming:
                await _stream(exchange, writer, events)
            else:
                await _whole(exchange, writer, events, service.backend)
    except Refusal as refusal:
        if exchange.started:  # the middleware cannot read an error line: it sends an empty event and no end
            broken = {**writer.head(chunk=True), "model": ""}
            choice = {"index": 0, "delta": {"content": ""}, "finish_reason": None}
            await exchange.end(b"data: " + golang.dumps({**broken, "choices": [choice]}) + b"\n\n")
        else:
            await respond.v1_refuse(exchange, refusal, streaming=streaming)


def sse(*events: Json) -> bytes:
    return b"".join(b"data: " + golang.dumps(e) + b"\n\n" for e in events)


async def _stream(exchange: Exchange, writer: Writer, events: AsyncIterator[Event]) -> None:
    async for event in events:
        if isinstance(event, Piece):
            data = sse(writer.piece(event))
        elif isinstance(event, Done):
            data = sse(*writer.final(event)) + b"data: [DONE]\n\n"
        else:
            continue
        if not exchange.started:
            await exchange.start(200, {"content-type": respond.SSE})
        await exchange.write(data)
    if not exchange.started:
        await exchange.start(200, {"content-type": respond.SSE})
        done = Done(writer.job.kind, 0, 0, 0, 0)
        await exchange.write(sse(*writer.final(done)) + b"data: [DONE]\n\n")
    await exchange.end()


async def _whole(
    exchange: Exchange, writer: Writer, events: AsyncIterator[Event], backend: Backend | None
) -> None:
    spoken, thinking, probabilities = "", "", []
    calls: list[Json] = []
    done: Done | None = None
    rivals = writer.job.ask.logprobs
    async for event in events:
        if isinstance(event, Piece) and event.call:
            calls.append(tool_call(event.call))
        elif isinstance(event, Piece):
            spoken += "" if event.thinking else event.text
            thinking += event.text if event.thinking else ""
            if rivals is not None:
                probabilities.append(native.logprobs(event.token, rivals, writer.job.ask.temperature))
        elif isinstance(event, Done):
            done = event
    reason = done.reason if done else (writer.job.kind if writer.job.kind != "run" else None)
    if writer.chat:
        message: Json = {"role": "assistant", "content": spoken, **({"reasoning": thinking} if thinking else {})}
        if calls:
            message["tool_calls"], reason = calls, "tool_calls"
        choice: Json = {"index": 0, "message": message, "finish_reason": reason}
        if probabilities:
            choice["logprobs"] = {"content": probabilities}
    else:
        choice = {"text": spoken, "index": 0, "finish_reason": reason}
    answer = {**writer.head(chunk=False), "choices": [choice], "usage": counts(done)}
    if writer.job.kind == "render":
        choice["finish_reason"], choice["message"]["role"] = None, ""
        answer["_debug_info"] = {"rendered_template": await rendered(writer.job.ask, backend)}
    await respond.v1_json(exchange, answer)
