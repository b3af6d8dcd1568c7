"""LangChain's Ollama classes and Anthropic's client, each against the address that it is given."""

from __future__ import annotations

import json
import sys
from typing import Any

import anthropic
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings


@tool
def weather(city: str) -> str:
    """Say how the weather is."""
    return city


def langchain(url: str, chat: str, embed: str) -> dict[str, Any]:
    model = ChatOllama(model=chat, base_url=url, num_predict=16, temperature=0)
    answer = model.invoke("one two three")
    called = model.bind_tools([weather]).invoke("weather?")
    return {
        "text": answer.content, "tokens": answer.usage_metadata["output_tokens"],
        "stream": [part.content for part in model.stream("one two three")],
        "calls": [[one["name"], one["args"]] for one in called.tool_calls],
        "vectors": [len(one) for one in OllamaEmbeddings(model=embed, base_url=url).embed_documents(["a", "b"])],
    }  # fmt: skip


def claude(url: str, model: str) -> dict[str, Any]:
    client = anthropic.Anthropic(base_url=url, api_key="any", max_retries=0)
    asked = {"model": model, "max_tokens": 16, "messages": [{"role": "user", "content": "hello"}]}
    answer = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        parts = list(stream.text_stream)
        final = stream.get_final_message()
    return {"text": answer.content[0].text, "tokens": answer.usage.output_tokens, "parts": len(parts),
            "stream": "".join(parts), "stop": final.stop_reason}  # fmt: skip


told = json.load(sys.stdin)
print(json.dumps({"langchain": langchain, "anthropic": claude}[told["library"]](*told["with"])))
