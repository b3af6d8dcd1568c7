"""The `openai` library: chat, text, embeddings, responses, models; sync, async and streamed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import openai
from pydantic import BaseModel
from shapes import runs, serve, shape

HELLO = [{"role": "user", "content": "Why is the sky blue?"}]
STEADY = {"temperature": 0, "max_tokens": 12}
WEATHER = {"type": "function", "function": {
    "name": "weather", "description": "Say how the weather is.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}  # fmt: skip
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class Weather(BaseModel):
    city: str
    rain: bool


def cases(told: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    base = {"base_url": f"{told['url']}/v1", "api_key": "ollama", "max_retries": 0}
    client = openai.OpenAI(**base)
    chat, think, embed = told["chat"], told["thinker"], told["embed"]
    ask = [{"role": "user", "content": "use weather"}]
    looking = {"type": "image_url", "image_url": {"url": PIXEL}}
    called = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    answered = [*HELLO, {"role": "assistant", "content": "", "tool_calls": [called]},
                {"role": "tool", "tool_call_id": "call_1", "content": "rain"}]  # fmt: skip

    def create(**more: Any) -> Any:
        return client.chat.completions.create(**{"model": chat, "messages": HELLO, **STEADY, **more})

    def stream(**more: Any) -> list[Any]:
        return runs(shape(part) for part in create(stream=True, **more))

    def words(**more: Any) -> str:
        parts = create(stream=True, **more)
        return "".join(part.choices[0].delta.content or "" for part in parts if part.choices)

    async def gathered() -> Any:
        async with openai.AsyncOpenAI(**base) as other:
            whole = await other.chat.completions.create(model=chat, messages=HELLO, **STEADY)
            parts = await other.chat.completions.create(model=chat, messages=HELLO, stream=True, **STEADY)
            said = "".join([part.choices[0].delta.content or "" async for part in parts])
        return [shape(whole), said == whole.choices[0].message.content]

    def helper() -> Any:
        with client.chat.completions.stream(model=chat, messages=HELLO, temperature=0) as events:
            kinds = sorted({event.type for event in events})
            return [kinds, shape(events.get_final_completion().choices[0].message)]

    def schema() -> Any:
        answer = client.chat.completions.parse(model=chat, messages=HELLO, response_format=Weather, temperature=0)
        return shape(answer.choices[0].message.parsed)

    def responses(**more: Any) -> Any:
        return client.responses.create(**{"model": chat, "input": "Why?", "temperature": 0, "max_output_tokens": 12, **more})

    tools = {"tools": [WEATHER], "temperature": 0, "max_tokens": None}
    return {
        "chat": lambda: shape(create()),
        "chat-stream": stream,
        "chat-stream-usage": lambda: stream(stream_options={"include_usage": True}),
        "chat-text": lambda: words() == create().choices[0].message.content,
        "chat-async": lambda: asyncio.run(gathered()),
        "chat-events": helper,
        "chat-tools": lambda: shape(create(messages=ask, **tools)),
        "chat-tools-stream": lambda: stream(messages=ask, **tools),
        "chat-tools-arguments": lambda: sorted(json.loads(
            create(messages=ask, **tools).choices[0].message.tool_calls[0].function.arguments)),
        "chat-tools-answered": lambda: shape(create(messages=answered, tools=[WEATHER])),
        "chat-json": lambda: shape(json.loads(create(
            response_format={"type": "json_object"}, max_tokens=None).choices[0].message.content)),
        "chat-schema": schema,
        "chat-think": lambda: shape(create(model=think, reasoning_effort="high", max_tokens=None)),
        "chat-think-stream": lambda: stream(model=think, reasoning_effort="high", max_tokens=None),
        "chat-think-off": lambda: shape(create(model=think, reasoning_effort="none")),
        "chat-logprobs": lambda: shape(create(logprobs=True, top_logprobs=2)),
        "chat-image-refused": lambda: shape(create(messages=[{"role": "user", "content": [looking]}])),
        "chat-stops": lambda: shape(create(stop=["a", "b", "c", "d", "e"], seed=3, max_tokens=200)),
        "chat-hot": lambda: shape(create(temperature=2.5)),
        "chat-completion-tokens": lambda: shape(create(max_tokens=None, max_completion_tokens=5)),
        "chat-options": lambda: shape(create(top_p=0.5, frequency_penalty=0.1, presence_penalty=0.1, seed=1, user="u")),
        "chat-spelled": lambda: shape(create(model=chat.upper())),
        "chat-parts": lambda: shape(create(messages=[{"role": "user", "content": [{"type": "text", "text": "hello"}]}])),
        "chat-developer": lambda: shape(create(messages=[{"role": "developer", "content": "Be brief."}, *HELLO])),
        "chat-many": lambda: shape(create(n=2)),
        "chat-bias": lambda: shape(create(logit_bias={"5": 1}, store=False, metadata={"a": "b"}, service_tier="auto")),
        "chat-tool-choice": lambda: shape(create(
            tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "weather"}}, parallel_tool_calls=False)),
        "chat-tool-choice-none": lambda: shape(create(tools=[WEATHER], tool_choice="none")),
        "chat-format-text": lambda: shape(create(response_format={"type": "text"})),
        "chat-unlimited": lambda: shape(create(max_tokens=None)),
        "chat-raw": lambda: client.chat.completions.with_raw_response.create(
            model=chat, messages=HELLO, **STEADY).headers["content-type"],
        "chat-unknown": lambda: shape(create(model="no-such-model")),
        "chat-unknown-stream": lambda: stream(model="no-such-model"),
        "chat-embedder-refused": lambda: shape(create(model=embed)),
        "chat-empty-refused": lambda: shape(create(messages=[])),
        "completions": lambda: shape(client.completions.create(model=chat, prompt="Once upon", **STEADY)),
        "completions-stream": lambda: runs(
            shape(part) for part in client.completions.create(model=chat, prompt="Once upon", stream=True, **STEADY)),
        "completions-stop": lambda: shape(
            client.completions.create(model=chat, prompt="Once", stop=["zzzz"], seed=1, suffix=None, temperature=0)),
        "completions-unknown": lambda: shape(client.completions.create(model="no-such-model", prompt="x")),
        "responses": lambda: shape(responses()),
        "responses-stream": lambda: runs(shape(event) for event in responses(stream=True)),
        "responses-messages": lambda: shape(responses(instructions="Be brief.", input=HELLO)),
        "responses-tools": lambda: shape(responses(
            input=ask, tools=[{"type": "function", **WEATHER["function"]}], max_output_tokens=200)),
        "responses-text": lambda: isinstance(responses().output_text, str),
        "responses-unknown": lambda: shape(responses(model="no-such-model")),
        "embeddings": lambda: shape(client.embeddings.create(model=embed, input="a")),
        "embeddings-batch": lambda: [
            len(one.embedding) for one in client.embeddings.create(model=embed, input=["a", "b", "c"]).data],
        "embeddings-float": lambda: shape(client.embeddings.create(model=embed, input="a", encoding_format="float")),
        "embeddings-dimensions": lambda: [
            len(one.embedding) for one in client.embeddings.create(model=embed, input="a", dimensions=64).data],
        "embeddings-unknown": lambda: shape(client.embeddings.create(model="no-such-model", input="a")),
        "models": lambda: [sorted(one.id for one in client.models.list()), shape(next(iter(client.models.list())))],
        "model": lambda: shape(client.models.retrieve(chat)),
        "model-unknown": lambda: shape(client.models.retrieve("no-such-model")),
    }  # fmt: skip


serve(cases)
