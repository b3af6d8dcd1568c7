"""The `ollama` library: everything a program does with it, sync and async."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import ollama
from shapes import runs, serve, shape

HELLO = [{"role": "user", "content": "Why is the sky blue?"}]
STEADY = {"temperature": 0, "num_predict": 12}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "rain": {"type": "boolean"}}, "required": ["city"]}
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


def weather(city: str, days: int = 1) -> str:
    """Say how the weather is.

    Args:
      city: where
      days: how far ahead
    """
    return f"{city} {days}"


def parsed(text: str) -> Any:
    return shape(json.loads(text))


def answered(model: str) -> list[dict[str, Any]]:
    """Return a conversation in which a tool has answered."""
    call = {"function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    return [*HELLO, {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_name": "weather", "content": "rain"}]  # fmt: skip


def cases(told: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    client = ollama.Client(host=told["url"])
    chat, think, embed = told["chat"], told["thinker"], told["embed"]
    ask = [{"role": "user", "content": "use weather"}]

    def stream(**more: Any) -> list[Any]:
        return runs(shape(part) for part in client.chat(stream=True, **{"model": chat, "messages": HELLO, "options": STEADY, **more}))

    async def gathered() -> Any:
        other = ollama.AsyncClient(host=told["url"])
        whole = await other.chat(chat, HELLO, options=STEADY)
        parts = [part async for part in await other.chat(chat, HELLO, stream=True, options=STEADY)]
        return [shape(whole), "".join(part.message.content or "" for part in parts) == whole.message.content]

    async def many() -> Any:
        other = ollama.AsyncClient(host=told["url"])
        return runs(shape(one) for one in await asyncio.gather(*(other.chat(chat, HELLO, options=STEADY) for _ in range(8))))

    def copied() -> Any:
        found = [client.copy(chat, "a-copy").status, shape(client.show("a-copy").details), client.delete("a-copy").status]
        return [*found, "a-copy:latest" in [one.model for one in client.list().models]]

    def texts() -> Any:
        whole = client.chat(chat, HELLO, options={**STEADY, "num_predict": 40})
        parts = client.chat(chat, HELLO, options={**STEADY, "num_predict": 40}, stream=True)
        return whole.message.content == "".join(part.message.content or "" for part in parts)

    return {
        "chat": lambda: shape(client.chat(chat, HELLO, options=STEADY)),
        "chat-stream": stream,
        "chat-text": texts,
        "chat-async": lambda: asyncio.run(gathered()),
        "chat-many": lambda: asyncio.run(many()),
        "chat-spelled": lambda: shape(client.chat(f"registry.ollama.ai/library/{chat.upper()}", HELLO, options=STEADY)),
        "chat-tools": lambda: shape(client.chat(chat, ask, tools=[weather], options={"temperature": 0})),
        "chat-tools-stream": lambda: stream(messages=ask, tools=[weather], options={"temperature": 0}),
        "chat-tools-answered": lambda: shape(client.chat(chat, answered(chat), tools=[weather], options=STEADY)),
        "chat-json": lambda: parsed(client.chat(chat, HELLO, format="json").message.content),
        "chat-schema": lambda: parsed(client.chat(chat, HELLO, format=SCHEMA).message.content),
        "chat-think": lambda: shape(client.chat(think, HELLO, think=True, options={"temperature": 0})),
        "chat-think-stream": lambda: stream(model=think, think=True, options={"temperature": 0}),
        "chat-think-off": lambda: shape(client.chat(think, HELLO, think=False, options=STEADY)),
        "chat-think-refused": lambda: shape(client.chat(chat, HELLO, think=True)),
        "chat-logprobs": lambda: shape(client.chat(chat, HELLO, logprobs=True, top_logprobs=2, options=STEADY)),
        "chat-image-refused": lambda: shape(client.chat(chat, [{**HELLO[0], "images": [PIXEL]}])),
        "chat-stop": lambda: shape(client.chat(chat, HELLO, options={"stop": ["a", "b", "c", "d", "e"], "seed": 3})),
        "chat-options": lambda: shape(client.chat(chat, HELLO, options={
            **STEADY, "num_ctx": 512, "top_k": 5, "min_p": 0.1, "repeat_penalty": 1.2, "mirostat": 1, "typical_p": 0.5})),
        "chat-load": lambda: shape(client.chat(chat, [], keep_alive="5m")),
        "chat-unload": lambda: shape(client.chat(chat, [], keep_alive=0)),
        "chat-keep-alive": lambda: shape(client.chat(chat, HELLO, keep_alive=-1, options=STEADY)),
        "chat-unknown": lambda: shape(client.chat("no-such-model", HELLO)),
        "chat-unknown-stream": lambda: shape(list(client.chat("no-such-model", HELLO, stream=True))),
        "chat-embedder-refused": lambda: shape(client.chat(embed, HELLO)),
        "generate": lambda: shape(client.generate(chat, "Once upon", options=STEADY)),
        "generate-stream": lambda: runs(shape(p) for p in client.generate(chat, "Once upon", stream=True, options=STEADY)),
        "generate-raw": lambda: shape(client.generate(chat, "Once upon", raw=True, options=STEADY)),
        "generate-system": lambda: shape(client.generate(chat, "Once upon", system="Be brief.", options=STEADY)),
        "generate-schema": lambda: parsed(client.generate(chat, "Once upon", format=SCHEMA).response),
        "generate-suffix-refused": lambda: shape(client.generate(chat, "def f(", suffix="return 1")),
        "generate-load": lambda: shape(client.generate(chat)),
        "embed": lambda: shape(client.embed(embed, "a")),
        "embed-batch": lambda: [len(one) for one in client.embed(embed, ["a", "b", "c"]).embeddings],
        "embed-dimensions": lambda: [len(one) for one in client.embed(embed, "a", dimensions=64).embeddings],
        "embeddings": lambda: len(client.embeddings(embed, "a").embedding),
        "embed-unknown": lambda: shape(client.embed("no-such-model", "a")),
        "list": lambda: [sorted(str(one.model) for one in client.list().models), shape(client.list().models[0])],
        "show": lambda: shape(client.show(chat)),
        "show-unknown": lambda: shape(client.show("no-such-model")),
        "copy-delete": copied,
        "create": lambda: [client.create("made", from_=chat, system="Be brief.").status, client.delete("made").status],
        "pull-unknown": lambda: shape(client.pull("no-such-model")),
        "delete-unknown": lambda: shape(client.delete("no-such-model")),
        "ps": lambda: (client.generate(chat), shape([one for one in client.ps().models if one.model == chat]))[1],
    }  # fmt: skip


serve(cases)
