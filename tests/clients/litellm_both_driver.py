"""`litellm` with both of its ways to Ollama (`ollama_chat/`, `ollama/`) and as an OpenAI client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import litellm
from shapes import runs, serve, shape

litellm.telemetry = False
litellm.suppress_debug_info = True
HELLO = [{"role": "user", "content": "Why is the sky blue?"}]
TOOL = {"type": "function", "function": {
    "name": "weather", "description": "Say how the weather is.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}  # fmt: skip
SCHEMA = {"type": "json_schema", "json_schema": {"name": "weather", "schema": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}  # fmt: skip


def cases(told: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    found: dict[str, Callable[[], Any]] = {}
    for prefix in ("ollama_chat", "ollama", "openai"):
        base = told["url"] + ("/v1" if prefix == "openai" else "")
        found |= {f"{prefix}-{name}": case for name, case in of(told, prefix, base).items()}
    return found


def of(told: dict[str, Any], prefix: str, base: str) -> dict[str, Callable[[], Any]]:
    common = {"api_base": base, "api_key": "ollama", "num_retries": 0, "max_retries": 0}

    def ask(**more: Any) -> Any:
        name = more.pop("model", told["chat"])
        return litellm.completion(**{"model": f"{prefix}/{name}", "messages": HELLO, "temperature": 0, "max_tokens": 12, **common, **more})

    def vectors(name: str, inputs: list[str]) -> Any:
        return litellm.embedding(model=f"{'openai' if prefix == 'openai' else 'ollama'}/{name}", input=inputs,
                                 encoding_format="float", **common) if prefix == "openai" else litellm.embedding(
            model=f"ollama/{name}", input=inputs, **common)  # fmt: skip

    async def gathered() -> Any:
        return shape(await litellm.acompletion(model=f"{prefix}/{told['chat']}", messages=HELLO, max_tokens=12, **common))

    use = {"messages": [{"role": "user", "content": "use weather"}], "tools": [TOOL], "max_tokens": 200}
    return {
        "chat": lambda: shape(ask()),
        "chat-stream": lambda: runs(shape(part) for part in ask(stream=True)),
        "chat-async": lambda: asyncio.run(gathered()),
        "chat-tools": lambda: shape(ask(**use)),
        "chat-tools-stream": lambda: runs(shape(part) for part in ask(stream=True, **use)),
        "chat-json": lambda: shape(ask(response_format={"type": "json_object"}, max_tokens=200)),
        "chat-schema": lambda: shape(ask(response_format=SCHEMA, max_tokens=200)),
        "chat-unknown": lambda: shape(ask(model="no-such-model")),
        "embed": lambda: [len(one["embedding"]) for one in vectors(told["embed"], ["a", "b"]).data],
        "embed-unknown": lambda: shape(vectors("no-such-model", ["a"])),
    }  # fmt: skip


serve(cases)
