"""`langchain-ollama`: chat model, text model and embeddings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from pydantic import BaseModel
from shapes import runs, serve, shape


@tool
def weather(city: str) -> str:
    """Say how the weather is."""
    return city


class Weather(BaseModel):
    """How the weather is."""

    city: str
    rain: bool


def message(value: Any) -> Any:
    """Return the shape of a message with what a chain reads of it."""
    return shape({key: getattr(value, key, None) for key in (
        "content", "tool_calls", "invalid_tool_calls", "usage_metadata", "response_metadata", "additional_kwargs")})  # fmt: skip


def cases(told: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    url, chat, think, embed = told["url"], told["chat"], told["thinker"], told["embed"]
    talk = [SystemMessage("Be brief."), HumanMessage("Why is the sky blue?")]
    call = {"name": "weather", "args": {"city": "Oslo"}, "id": "1", "type": "tool_call"}
    answered = [*talk, AIMessage("", tool_calls=[call]), ToolMessage("rain", tool_call_id="1")]
    vectors = OllamaEmbeddings(model=embed, base_url=url)

    def model(**more: Any) -> ChatOllama:
        return ChatOllama(**{"model": chat, "base_url": url, "temperature": 0, "num_predict": 12, **more})

    async def streamed() -> Any:
        return runs([message(part) async for part in model().astream(talk)])

    def structured(method: str) -> Any:
        return shape(model(num_predict=-1).with_structured_output(Weather, method=method).invoke("use Weather"))

    return {
        "chat": lambda: message(model().invoke(talk)),
        "chat-stream": lambda: runs(message(part) for part in model().stream(talk)),
        "chat-text": lambda: "".join(str(part.content) for part in model().stream(talk)) == model().invoke(talk).content,
        "chat-async-stream": lambda: asyncio.run(streamed()),
        "chat-batch": lambda: [message(one) for one in model().batch(["a", "b"])],
        "chat-tools": lambda: message(model(num_predict=-1).bind_tools([weather]).invoke("use weather")),
        "chat-tools-stream": lambda: runs(
            message(part) for part in model(num_predict=-1).bind_tools([weather]).stream("use weather")),
        "chat-tools-answered": lambda: message(model().bind_tools([weather]).invoke(answered)),
        "chat-schema": lambda: structured("json_schema"),
        "chat-function": lambda: structured("function_calling"),
        "chat-json": lambda: message(model(format="json", num_predict=-1).invoke(talk)),
        "chat-think": lambda: message(model(model=think, reasoning=True, num_predict=-1).invoke(talk)),
        "chat-think-off": lambda: message(model(model=think, reasoning=False).invoke(talk)),
        "chat-think-refused": lambda: message(model(reasoning=True).invoke(talk)),
        "chat-options": lambda: message(model(top_k=5, repeat_penalty=1.2, num_ctx=512, stop=["zzzz"], keep_alive=60).invoke(talk)),
        "chat-validated": lambda: message(model(validate_model_on_init=True).invoke(talk)),
        "chat-unknown": lambda: message(model(model="no-such-model").invoke(talk)),
        "text": lambda: type(OllamaLLM(model=chat, base_url=url, num_predict=12).invoke("Once upon")).__name__,
        "text-stream": lambda: shape(list(OllamaLLM(model=chat, base_url=url, num_predict=12).stream("Once upon"))),
        "embed": lambda: [len(one) for one in vectors.embed_documents(["a", "b"])],
        "embed-query": lambda: shape(vectors.embed_query("a")),
        "embed-unknown": lambda: shape(OllamaEmbeddings(model="no-such-model", base_url=url).embed_query("a")),
    }  # fmt: skip


serve(cases)
