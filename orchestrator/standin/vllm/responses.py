"""/v1/responses: OpenAI's newer route, without stored state."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import Any

from orchestrator.standin import text
from orchestrator.standin.vllm import checks, respond
from orchestrator.standin.vllm.chat import sequences
from orchestrator.standin.vllm.engine import End, Engine, Params
from orchestrator.standin.vllm.startlog import identifier
from orchestrator.standin.wire import Exchange

Json = dict[str, Any]


def spoken(value: Json) -> list[Json]:
    """Return the conversation that `instructions` and `input` make."""
    system = [{"role": "system", "content": value["instructions"]}] if value.get("instructions") else []
    given = value["input"]
    if isinstance(given, str):
        return [*system, {"role": "user", "content": given}]
    return system + [
        {"role": i.get("role", "user"), "content": i.get("content")}
        for i in given
        if isinstance(i, dict) and "content" in i
    ]


async def handle(engine: Engine, exchange: Exchange) -> None:
    value = checks.decode(exchange.body, exchange.headers.get("content-type", ""), "responses")
    checks.model(engine.options, value)
    prompt = text.render(spoken(value))
    wanted = (value.get("text") or {}).get("format") or {}
    inner = {**value, "max_tokens": value.get("max_output_tokens")}
    if wanted.get("type") == "json_schema":
        inner["response_format"] = {"type": "json_schema", "json_schema": wanted}
    params = sequences(engine, inner, prompt, text.prompt_tokens(prompt), None)[0]
    engine.admit()
    writer = Writer(engine, value, params)
    await (_stream if value.get("stream") else _whole)(engine, exchange, writer)


class Writer:
    """Words one answer and numbers its events."""

    def __init__(self, engine: Engine, value: Json, params: Params) -> None:
        self.value = value
        self.params = params
        self.model = engine.options.names[0]
        self.id = identifier("resp_")
        self.item_id = identifier("msg_")
        self.created = int(time.time())
        self._sequence = 0

    def item(self, answer: str | None, status: str) -> Json:
        """Return the message; None is one whose content has not begun."""
        part: Json = {"annotations": [], "text": answer, "type": "output_text", "logprobs": None}
        content = [] if answer is None else [part]
        head = {"id": self.item_id, "content": content, "role": "assistant", "status": status}
        return {**head, "type": "message", "phase": None}

    def whole(self, output: list[Json], end: End | None) -> Json:
        value = self.value
        temperature = 1.0 if value.get("temperature") is None else float(value["temperature"])
        cut = end is not None and end.reason == "length"
        return {
            "id": self.id, "created_at": self.created,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "instructions": value.get("instructions"), "metadata": value.get("metadata"), "model": self.model,
            "object": "response", "output": output, "parallel_tool_calls": True,
            "temperature": temperature, "tool_choice": "none", "tools": [],
            "top_p": float(value.get("top_p") or 1.0), "background": False,
            "max_output_tokens": self.params.limit, "max_tool_calls": None, "previous_response_id": None,
            "prompt": None, "reasoning": value.get("reasoning"), "service_tier": "auto",
            "status": "in_progress" if end is None else ("incomplete" if cut else "completed"),
            "text": value.get("text"), "top_logprobs": None, "truncation": "disabled",
            "usage": self._usage(end) if end else None, "user": value.get("user"), "presence_penalty": 0.0,
            "frequency_penalty": 0.0, "kv_transfer_params": None, "ec_transfer_params": None,
            "input_messages": None, "output_messages": None,
        }  # fmt: skip

    def _usage(self, end: End) -> Json:
        prompt = self.params.prompt_tokens
        empty: Json = {"input_tokens_per_turn": [], "cached_tokens_per_turn": []}
        made: Json = {"output_tokens_per_turn": [], "tool_output_tokens_per_turn": []}
        return {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0, **empty},
            "output_tokens": end.tokens,
            "output_tokens_details": {"reasoning_tokens": 0, "tool_output_tokens": 0, **made},
            "total_tokens": prompt + end.tokens,
        }

    async def send(self, exchange: Exchange, kind: str, **fields: Any) -> None:
        numbered = {**fields, "sequence_number": self._sequence, "type": f"response.{kind}"}
        self._sequence += 1
        await respond.event(exchange, numbered, f"response.{kind}")


async def _whole(engine: Engine, exchange: Exchange, writer: Writer) -> None:
    answer, end = "", End("stop", 0)
    events = engine.generate(writer.params)
    async with aclosing(events):
        async for token in events:
            answer += token.text
            end = token.end or end
    await respond.json(exchange, writer.whole([writer.item(answer, "completed")], end))


async def _stream(engine: Engine, exchange: Exchange, writer: Writer) -> None:
    answer, end = "", End("stop", 0)
    place = {"content_index": 0, "item_id": writer.item_id, "output_index": 0}
    part: Json = {"annotations": [], "text": "", "type": "output_text", "logprobs": []}
    await respond.begin(exchange)
    for kind in ("created", "in_progress"):
        await writer.send(exchange, kind, response=writer.whole([], None))
    await writer.send(exchange, "output_item.added", item=writer.item(None, "in_progress"), output_index=0)
    await writer.send(exchange, "content_part.added", part=part, **place)
    events = engine.generate(writer.params)
    async with aclosing(events):
        async for token in events:
            answer += token.text
            end = token.end or end
            await writer.send(exchange, "output_text.delta", delta=token.text, logprobs=[], **place)
    done = writer.item(answer, "completed")
    await writer.send(exchange, "output_text.done", logprobs=[], text=answer, **place)
    await writer.send(exchange, "content_part.done", part=done["content"][0], **place)
    await writer.send(exchange, "output_item.done", item=done, output_index=0)
    await writer.send(exchange, "completed", response=writer.whole([done], end))
    await exchange.end()
