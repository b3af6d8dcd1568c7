"""/api/chat and /api/generate."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from orchestrator.standin import text
from orchestrator.standin.backend import Backend
from orchestrator.standin.ollama import golang, respond
from orchestrator.standin.ollama.generate import Done, Piece, rendered
from orchestrator.standin.ollama.requests import Refusal, decode
from orchestrator.standin.ollama.service import Event, Job, Service, Started
from orchestrator.standin.wire import Exchange

Json = dict[str, Any]
NO_BODY = "missing request body"


def request_of(exchange: Exchange, struct: str) -> Json:
    """Decode a native request; an empty body has words of its own."""
    if not exchange.body.strip():
        raise Refusal(400, NO_BODY)
    return decode(exchange.body, struct)


def logprobs(token: str, rivals: int, temperature: float = 0.0) -> Json:
    """Return the log-probability of one token, with those of its rivals if asked."""
    rank = text.drawn(temperature, rivals)

    def one(word: str, value: float) -> Json:
        return {"token": word, "logprob": value, "bytes": list(word.encode())}

    entry = one(token, text.logprob(token, rank))
    if rivals:
        entry["top_logprobs"] = [one(w, v) for w, v in text.rivals(token, rivals, rank)]
    return entry


def tool_call(call: Json) -> Json:
    """Return a native tool call; its arguments are an object."""
    return {"id": f"call_{secrets.token_hex(4)}", "function": {"index": 0, **call}}


class Dialect:
    """How one of the two routes words its lines."""

    def __init__(self, job: Job, *, chat: bool) -> None:
        self.job = job
        self.chat = chat
        self.load_ns = 0
        self.began = 0

    def line(self, answer: str, thinking: str = "", **rest: Any) -> Json:
        head: Json = {"model": self.job.name, "created_at": golang.stamp()}
        if self.chat:
            head["message"] = {"role": "assistant", "content": answer}
            if thinking:
                head["message"]["thinking"] = thinking
        else:
            head["response"] = answer
            if thinking:
                head["thinking"] = thinking
        return {**head, **rest}

    def started(self, event: Started) -> None:
        self.load_ns, self.began = event.load_ns, event.began_ns

    def piece(self, piece: Piece) -> Json:
        rest: Json = {"done": False}
        if piece.call:
            line = self.line("", **rest)
            (line["message"] if self.chat else line)["tool_calls"] = [tool_call(piece.call)]
            return line
        if self.job.ask.logprobs is not None:
            rest["logprobs"] = [logprobs(piece.token, self.job.ask.logprobs, self.job.ask.temperature)]
        return self.line("" if piece.thinking else piece.text, piece.text if piece.thinking else "", **rest)

    def end(self, done: Done, spoken: str) -> Json:
        """Return the fields of the last line."""
        fields: Json = {"done": True, "done_reason": done.reason}
        if not self.chat and self.job.ask.raw is None:
            context = text.tokens(self.job.ask.prompt + spoken)
            fields["context"] = [sum(t.encode()) % 32_000 for t in context]
        fields |= {
            "total_duration": time.monotonic_ns() - self.began,
            "load_duration": self.load_ns,
            "prompt_eval_count": done.prompt_tokens,
            "prompt_eval_duration": done.prompt_ns,
            "eval_count": done.tokens,
            "eval_duration": done.ns,
        }
        return {k: v for k, v in fields.items() if v != 0}


async def handle(service: Service, exchange: Exchange, *, chat: bool) -> None:
    streaming = True
    try:
        request = request_of(exchange, "ChatRequest" if chat else "GenerateRequest")
        streaming = request.get("stream") is not False
        job = service.chat(request) if chat else service.generate(request)
        events = service.run(job, exchange.loaded)
        dialect = Dialect(job, chat=chat)
        async with aclosing(events):
            if job.kind != "run":
                await _only_load(exchange, dialect, events, service.backend)
            elif streaming:
                await _stream(exchange, dialect, events)
            else:
                await _whole(exchange, dialect, events)
    except Refusal as refusal:
        if exchange.started:
            await exchange.end(golang.dumps({"error": refusal.message}) + b"\n")
        else:
            await respond.refuse(exchange, refusal, streaming=streaming)


async def _only_load(
    exchange: Exchange, dialect: Dialect, events: AsyncIterator[Event], backend: Backend | None
) -> None:
    async for _ in events:
        pass
    job = dialect.job
    if job.kind == "render":
        line = dialect.line("", done=False, _debug_info={"rendered_template": await rendered(job.ask, backend)})
        if dialect.chat:
            line["message"]["role"] = ""
        await respond.json(exchange, line)
        return
    await respond.json(exchange, dialect.line("", done=True, done_reason=job.kind))


async def _stream(exchange: Exchange, dialect: Dialect, events: AsyncIterator[Event]) -> None:
    spoken = ""
    async for event in events:
        if isinstance(event, Started):
            dialect.started(event)
            continue
        if isinstance(event, Piece):
            spoken += "" if event.thinking else event.text
            line = dialect.piece(event)
        else:
            line = dialect.line("", **dialect.end(event, spoken))
        if not exchange.started:
            await exchange.start(200, {"content-type": respond.NDJSON})
        await exchange.write(golang.dumps(line) + b"\n")
    await exchange.end()


async def _whole(exchange: Exchange, dialect: Dialect, events: AsyncIterator[Event]) -> None:
    spoken, thinking, probabilities = "", "", []
    calls: list[Json] = []
    fields: Json = {"done": False}
    rivals = dialect.job.ask.logprobs
    async for event in events:
        if isinstance(event, Started):
            dialect.started(event)
        elif isinstance(event, Piece) and event.call:
            calls.append(tool_call(event.call))
        elif isinstance(event, Piece):
            spoken += "" if event.thinking else event.text
            thinking += event.text if event.thinking else ""
            if rivals is not None:
                probabilities.append(logprobs(event.token, rivals, dialect.job.ask.temperature))
        else:
            fields = dialect.end(event, spoken)
    if probabilities:
        fields["logprobs"] = probabilities
    line = dialect.line(spoken, thinking, **fields)
    if calls:
        (line["message"] if dialect.chat else line)["tool_calls"] = calls
    await respond.json(exchange, line)
