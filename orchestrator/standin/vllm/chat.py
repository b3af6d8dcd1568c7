"""/v1/chat/completions."""

from __future__ import annotations

import time
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.standin import text
from orchestrator.standin.vllm import FINGERPRINT, checks, respond, tools
from orchestrator.standin.vllm.engine import End, Engine, Params, Token, options_of
from orchestrator.standin.vllm.startlog import identifier
from orchestrator.standin.wire import Exchange

Json = dict[str, Any]
EMPTY = "Cannot apply chat template to an empty conversation. Provide at least one message."


@dataclass(frozen=True)
class Job:
    """A checked request."""

    id: str
    value: Json
    params: list[Params]
    call: Json | None
    temperature: float

    @property
    def usage(self) -> tuple[bool, bool]:
        """Whether to send usage at the end, and with every chunk."""
        wanted = self.value.get("stream_options") or {}
        return bool(wanted.get("include_usage")), bool(wanted.get("continuous_usage_stats"))

    @property
    def rivals(self) -> int | None:
        return (self.value.get("top_logprobs") or 0) if self.value.get("logprobs") else None


def token_id(word: str) -> int:
    """Return the pretended id of a token."""
    return text.VOCABULARY.number(word)


def request_id(exchange: Exchange, prefix: str) -> str:
    given = exchange.headers.get("x-request-id")
    return f"{prefix}{given}" if given else identifier(prefix)


def sequences(engine: Engine, value: Json, prompt: str, count: int, default: int | None, **more: Any) -> list[Params]:
    """Return the sequences that a request asks for, its parameters checked."""
    options = engine.options
    checks.sampling(value)
    checks.logprobs(value)
    constrained = more.pop("constrained", None) or checks.constraint(value, prompt)
    number, most = checks.limit(value, prompt, count, engine.ready.max_model_len, default)
    stop = value.get("stop")
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    greedy = float(options_of(value, options.defaults, "temperature", 1.0)) == 0
    seed = value.get("seed")
    n = value.get("n") or 1
    return [
        Params(
            prompt, number, most, greedy, None if seed is None else seed + i, stops,
            endless=bool(value.get("ignore_eos")), constrained=constrained, n=n, **more,
        )
        for i in range(n)
    ]  # fmt: skip


def prepare(engine: Engine, exchange: Exchange, value: Json) -> Job:
    checks.model(engine.options, value)
    if not value["messages"]:
        raise checks.Refusal(EMPTY)
    tools.check(engine.options, value)
    used = value.get("tools") if value.get("tool_choice") != "none" else None
    prompt = text.render(value["messages"], used)
    call = tools.forced(value, prompt)
    template = value.get("chat_template_kwargs") or {}
    think = engine.options.reasoning and template.get("enable_thinking", engine.options.thinking)
    params = sequences(
        engine, value, prompt, text.prompt_tokens(prompt), None, think=think and call is None,
        constrained=call["arguments"] if call else None,
    )  # fmt: skip
    temperature = float(options_of(value, engine.options.defaults, "temperature", 1.0))
    return Job(request_id(exchange, "chatcmpl-"), value, params, call, temperature)


def logprob(token: str, rivals: int, temperature: float) -> Json:
    rank = text.drawn(temperature, rivals)

    def one(word: str, value: float) -> Json:
        return {"token": word, "logprob": value, "bytes": list(word.encode())}

    listed = [one(w, v) for w, v in text.rivals(token, rivals, rank)] if rivals else []
    return {**one(token, text.logprob(token, rank)), "top_logprobs": listed}


def counts(prompt: int, answer: int) -> Json:
    return {"prompt_tokens": prompt, "total_tokens": prompt + answer, "completion_tokens": answer}


async def handle(engine: Engine, exchange: Exchange) -> None:
    value = checks.decode(exchange.body, exchange.headers.get("content-type", ""), "chat")
    job = prepare(engine, exchange, value)
    engine.admit()
    await (_stream if value.get("stream") else _whole)(engine, exchange, job)


async def _collect(engine: Engine, job: Job, index: int) -> tuple[Json, End]:
    """Run one sequence and return its choice."""
    spoken, thinking, probabilities = "", "", []
    end = End("stop", 0)
    events = engine.generate(job.params[index])
    async with aclosing(events):
        async for item in events:
            end = item.end or end
            spoken += "" if item.thinking else item.text
            thinking += item.text if item.thinking else ""
            if job.rivals is not None:
                probabilities.append(logprob(item.raw, job.rivals, job.temperature))
    called = job.call is not None and end.reason == "stop"
    if job.call and not called:
        spoken = tools.opening(job.call) + spoken
    message: Json = {
        "role": "assistant", "content": None if called else spoken, "refusal": None, "annotations": None,
        "audio": None, "function_call": None, "reasoning": thinking or None,
    }  # fmt: skip
    if called:
        function = {"id": identifier("chatcmpl-tool-"), "type": "function", "function": job.call}
        message["tool_calls"] = [function]
    choice = {
        "index": index, "message": message, "logprobs": {"content": probabilities} if probabilities else None,
        "finish_reason": "tool_calls" if called else end.reason, "stop_reason": end.stop, "token_ids": None,
        "routed_experts": None,
    }  # fmt: skip
    return choice, end


async def _whole(engine: Engine, exchange: Exchange, job: Job) -> None:
    found = [await _collect(engine, job, i) for i in range(len(job.params))]
    total = sum(end.tokens for _, end in found)
    await respond.json(
        exchange,
        {
            "id": job.id, "object": "chat.completion", "created": int(time.time()),
            "model": engine.options.named(job.value.get("model")),
            "choices": [choice for choice, _ in found], "service_tier": None, "system_fingerprint": FINGERPRINT,
            "usage": {
                **counts(job.params[0].prompt_tokens, total),
                "prompt_tokens_details": None,
                "completion_tokens_details": None,
            },
            "prompt_logprobs": None, "prompt_token_ids": None, "prompt_text": None, "kv_transfer_params": None,
            "ec_transfer_params": None, "metrics": None,
        },
    )  # fmt: skip


class Stream:
    """Words the chunks of one streamed answer."""

    def __init__(self, engine: Engine, job: Job) -> None:
        self.job = job
        self.prompt = job.params[0].prompt_tokens
        self.tokens = 0
        self._numbered = job.value.get("return_token_ids") is True
        self.head = {
            "id": job.id,
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": engine.options.named(job.value.get("model")),
        }

    def chunk(self, index: int, delta: Json, reason: str | None, **more: Any) -> Json:
        choice = {"index": index, "delta": delta, "logprobs": more.pop("logprobs", None), "finish_reason": reason}
        found: Json = {**self.head, "choices": [{**choice, **more}]}
        if reason and not self.job.usage[0]:
            found["system_fingerprint"] = FINGERPRINT  # it rides on the last event
        if self.job.usage[1]:
            found["usage"] = {**counts(self.prompt, self.tokens), "completion_tokens_details": None}
        return found

    def role(self, index: int) -> Json:
        opening = self.chunk(index, {"role": "assistant", "content": ""}, None)
        words = text.tokens(self.job.params[index].prompt) if self._numbered else None
        return {**opening, "prompt_token_ids": words and [token_id(w) for w in words], "prompt_text": None}

    def token(self, index: int, token: Token) -> Json:
        self.tokens += 1
        rivals = self.job.rivals
        found = {"content": [logprob(token.raw, rivals, self.job.temperature)]} if rivals is not None else None
        delta = {"reasoning": token.text} if token.thinking else {"content": token.text}
        return self.last(index, delta, token.end, found, [token_id(token.raw)] if self._numbered else None)

    def last(
        self, index: int, delta: Json, end: End | None, found: Json | None = None, ids: list[int] | None = None
    ) -> Json:
        stopped = {"stop_reason": end.stop} if end else {}
        return self.chunk(index, delta, end.reason if end else None, logprobs=found, **stopped, token_ids=ids)

    def usage(self) -> Json:
        return {
            **self.head,
            "choices": [],
            "usage": counts(self.prompt, self.tokens),
            "system_fingerprint": FINGERPRINT,
        }

    def opening(self, index: int) -> Json:
        """Return the chunk that names the called tool."""
        assert self.job.call is not None
        function = {"name": self.job.call["name"]}
        part = {"id": identifier("chatcmpl-tool-"), "type": "function", "index": 0, "function": function}
        return self.last(index, {"content": None, "tool_calls": [part]}, None)

    def arguments(self, index: int, token: Token) -> Json:
        """Return a chunk with a piece of the call's arguments."""
        self.tokens += 1
        part = {"index": 0, "function": {"arguments": token.text}}
        whole = token.end is not None and token.end.reason == "stop"
        end = replace(token.end, reason="tool_calls") if token.end and whole else token.end
        return self.last(index, {"content": None, "tool_calls": [part]}, end)


async def _stream(engine: Engine, exchange: Exchange, job: Job) -> None:
    """Send headers and role before the first token, as the real server does."""
    stream = Stream(engine, job)
    await respond.begin(exchange)
    for index in range(len(job.params)):
        await respond.event(exchange, stream.role(index))
    for index in range(len(job.params)):
        await _stream_one(engine, exchange, stream, index)
    if job.usage[0]:
        await respond.event(exchange, stream.usage())
    await exchange.end(b"data: [DONE]\n\n")


async def _stream_one(engine: Engine, exchange: Exchange, stream: Stream, index: int) -> None:
    """Send one sequence; its last token's chunk carries the reason."""
    calling = stream.job.call is not None
    if calling:
        await respond.event(exchange, stream.opening(index))
    events = engine.generate(stream.job.params[index])
    async with aclosing(events):
        async for token in events:
            await respond.event(exchange, stream.arguments(index, token) if calling else stream.token(index, token))
