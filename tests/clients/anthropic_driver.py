"""The `anthropic` library, as Claude Code and others use it: messages whole and streamed, tools, token counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anthropic
from shapes import runs, serve, shape

STEADY = {"temperature": 0}  # fields that older versions had as arguments
HELLO = [{"role": "user", "content": "Why is the sky blue?"}]
TOOL = {"name": "weather", "description": "Say how the weather is.",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}  # fmt: skip
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def cases(told: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    base = {"base_url": told["url"], "api_key": "ollama", "max_retries": 0}
    client = anthropic.Anthropic(**base)
    chat, think = told["chat"], told["thinker"]
    ask = [{"role": "user", "content": "use weather"}]
    used = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"}
    answered = [*HELLO, {"role": "assistant", "content": [used]}, {"role": "user", "content": [result]}]
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2048}

    def create(**more: Any) -> Any:
        return client.messages.create(**{"model": chat, "max_tokens": 12, "messages": HELLO, "extra_body": STEADY, **more})

    def events(**more: Any) -> list[Any]:
        return runs(shape(event) for event in create(stream=True, **more))

    def helper() -> Any:
        with client.messages.stream(model=chat, max_tokens=12, messages=HELLO, extra_body=STEADY) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        return [shape(final), text == final.content[0].text]

    async def gathered() -> Any:
        async with anthropic.AsyncAnthropic(**base) as other:
            return shape(await other.messages.create(model=chat, max_tokens=12, messages=HELLO))

    return {
        "messages": lambda: shape(create()),
        "messages-stream": events,
        "messages-events": helper,
        "messages-async": lambda: asyncio.run(gathered()),
        "messages-system": lambda: shape(create(
            system="Be brief.", metadata={"user_id": "u"}, extra_body={**STEADY, "top_k": 5, "top_p": 0.5})),
        "messages-stop": lambda: shape(create(stop_sequences=["zzzz"], max_tokens=300)),
        "messages-system-blocks": lambda: shape(create(
            system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}])),
        "messages-tool-choice": lambda: shape(create(tools=[TOOL], tool_choice={"type": "any"})),
        "messages-beta": lambda: shape(client.beta.messages.create(
            model=chat, max_tokens=12, messages=HELLO, betas=["any-2026-01-01"], extra_body=STEADY)),
        "messages-tools": lambda: shape(create(messages=ask, tools=[TOOL], max_tokens=200)),
        "messages-tools-stream": lambda: events(messages=ask, tools=[TOOL], max_tokens=200),
        "messages-tools-answered": lambda: shape(create(messages=answered, tools=[TOOL])),
        "messages-thinking": lambda: shape(create(model=think, **thinking)),
        "messages-thinking-stream": lambda: events(model=think, **thinking),
        "messages-thinking-relaxed": lambda: shape(create(**thinking)),
        "messages-image-refused": lambda: shape(create(messages=[{"role": "user", "content": [image]}])),
        "messages-unknown": lambda: shape(create(model="no-such-model")),
        "messages-unknown-stream": lambda: events(model="no-such-model"),
        "messages-empty-refused": lambda: shape(create(messages=[])),
        "count-tokens": lambda: shape(client.messages.count_tokens(model=chat, messages=HELLO)),
        "models": lambda: shape([one.id for one in client.models.list()]),
    }  # fmt: skip


serve(cases)
