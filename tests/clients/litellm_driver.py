"""Asks for everything that is wanted through LiteLLM's Router, made of one exported file."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import litellm
import yaml

litellm.telemetry = False
litellm.suppress_debug_info = True


def ask(router: litellm.Router, kind: str, model: str, text: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    if kind == "chat":
        answer = router.completion(model=model, messages=messages, max_tokens=8)
        return {"text": answer.choices[0].message.content, "usage": answer.usage.completion_tokens}
    if kind == "stream":
        parts = [part.choices[0].delta.content for part in
                 router.completion(model=model, messages=messages, max_tokens=8, stream=True)]  # fmt: skip
        return {"text": "".join(part or "" for part in parts), "parts": len(parts)}
    if kind == "async":
        answer = asyncio.run(router.acompletion(model=model, messages=messages, max_tokens=8))
        return {"text": answer.choices[0].message.content}
    if kind == "tools":
        tool = {"type": "function", "function": {
            "name": "weather", "description": "x", "parameters": {"type": "object", "properties": {}}}}  # fmt: skip
        answer = router.completion(model=model, messages=messages, tools=[tool], max_tokens=8)
        return {"role": answer.choices[0].message.role}
    answer = router.embedding(model=model, input=[text, "b"])
    return {"vectors": [len(one["embedding"]) for one in answer.data]}


def attempt(router: litellm.Router, kind: str, model: str, text: str) -> dict[str, Any]:
    try:
        return ask(router, kind, model, text)
    except Exception as error:  # noqa: BLE001 - the test says what it expects
        return {"error": type(error).__name__, "said": str(error)[:500]}


def main() -> None:
    told = json.load(sys.stdin)
    models = yaml.safe_load(told["config"])["model_list"]
    router = litellm.Router(model_list=models, num_retries=0)
    print(json.dumps({"names": sorted(router.model_names), "answers": [attempt(router, *one) for one in told["asks"]]}))


main()
