"""Requests of /v1/responses, OpenAI's newer API as Ollama offers it. Source: ollama openai/responses.go."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from orchestrator.adapter import ask, messages, options, v1
from orchestrator.adapter.ask import Ask
from orchestrator.adapter.config import Route
from orchestrator.adapter.refusals import Refusal, kind_of, unfit, unsupported
from orchestrator.adapter.wire import JSON

NO_FILES = "file inputs are not currently supported"


def chat(route: Route, request: JSON) -> Ask | str:
    """Translate /v1/responses; without input it only loads. Nothing is stored, so earlier answers are not found.

    Ignored, as by Ollama: previous_response_id, store, tool_choice, include, metadata, user.
    """
    name = str(request.get("model") or "")
    effort = v1.effort(request)
    given = spoken(request)
    merged = options.responses(route.parameters, _options(request))
    if not given:
        return "load"
    if route.embeds:
        raise unsupported(name, "chat")
    conversation = messages.with_modelfile(route, messages.native(route, given))
    question = ask.build(route, name, merged, messages=conversation, stream=request.get("stream") is True)
    messages.tools(route, tools(request), question.body)
    ask.constrain(_schema(request), question.body)
    ask.think(route, name, effort, question.body)
    return question


def tools(request: JSON) -> list[JSON]:
    """Return the tools in the form of chat completions, where the function is nested."""
    given = request.get("tools")
    if given is not None and not (isinstance(given, list) and all(isinstance(tool, dict) for tool in given)):
        raise unfit(given, "ResponsesRequest", "tools", "[]openai.ResponsesTool")
    found = []
    for tool in given or []:
        function = {"name": tool.get("name") or "", "description": tool.get("description") or ""}
        parameters = tool.get("parameters") or {"type": "object", "properties": {}}
        found.append({"type": "function", "function": {**function, "parameters": parameters}})
    return found


def spoken(request: JSON) -> list[JSON]:
    """Return instructions and input in the form of Ollama's native API; raises Refusal for unknown items."""
    found: list[JSON] = []
    instructions = request.get("instructions")
    if instructions is not None and not isinstance(instructions, str):
        raise unfit(instructions, "ResponsesRequest", "instructions", "string")
    if instructions:
        found.append({"role": "system", "content": instructions})
    given = request.get("input")
    if isinstance(given, str):
        return [*found, {"role": "user", "content": given}] if given else found
    if given is None:
        return found
    if not isinstance(given, list):
        text = f"json: cannot unmarshal {kind_of(given)} into Go value of type []json.RawMessage"
        raise Refusal(400, f"input must be a string or array: {text}", early=True)
    return found + _items(given)


def _items(given: list[Any]) -> list[JSON]:
    found: list[JSON] = []
    thought = ""
    for at, item in enumerate(given):
        if not isinstance(item, dict):
            raise Refusal(400, f"input[{at}]: input item missing required 'type' field", early=True)
        kind = item.get("type") or ("message" if item.get("role") else "")
        if kind == "reasoning":
            thought = str(item.get("encrypted_content") or "")
            continue
        said = _KINDS.get(kind, _unknown)(item, f"input[{at}]")
        if kind == "function_call" and found and found[-1]["role"] == "assistant":
            found[-1].setdefault("tool_calls", []).extend(said["tool_calls"])
        else:
            found.append(said)
        if thought and found[-1]["role"] == "assistant":
            found[-1]["thinking"], thought = thought, ""
    return [*found, {"role": "assistant", "content": "", "thinking": thought}] if thought else found


def _message(item: JSON, where: str) -> JSON:
    return {"role": str(item.get("role") or "user"), **_content(item.get("content"), f"{where}: content")}


def _call(item: JSON, _: str) -> JSON:
    text = item.get("arguments") or "{}"
    try:
        arguments = json.loads(text)
    except (TypeError, ValueError) as error:
        raise Refusal(400, f"failed to parse function call arguments: {error}", early=True) from error
    call = {"id": item.get("call_id"), "function": {"name": item.get("name") or "", "arguments": arguments}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


def _output(item: JSON, where: str) -> JSON:
    return {"role": "tool", "tool_call_id": item.get("call_id"), **_content(item.get("output"), f"{where}: output")}


def _unknown(item: JSON, where: str) -> JSON:
    kind = item.get("type")
    if not kind:
        raise Refusal(400, f"{where}: input item missing required 'type' field", early=True)
    raise Refusal(400, f"{where}: unknown input item type: {json.dumps(kind, ensure_ascii=False)}", early=True)


_KINDS: dict[str, Callable[[JSON, str], JSON]] = {
    "message": _message, "function_call": _call, "function_call_output": _output,
}  # fmt: skip


def _content(content: Any, where: str) -> JSON:
    """Return text and images of a message or of a tool's result."""
    if content is None or isinstance(content, str):
        return {"content": content or ""}
    if not isinstance(content, list):
        raise Refusal(400, f"{where} must be a string or array", early=True)
    text, images = "", []
    for at, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("input_text", "output_text"):
            text += str(part.get("text") or "")
        elif kind == "input_image":
            images += [messages.image_data(part["image_url"])] if part.get("image_url") else []
        elif kind == "input_file":
            raise Refusal(400, NO_FILES, early=True)
        else:
            raise Refusal(400, f"{where}[{at}]: unknown content type: {kind or ''}", early=True)
    return {"content": text, **({"images": images} if images else {})}


def _schema(request: JSON) -> JSON | None:
    """Return the schema of `text.format`; other formats mean nothing to Ollama."""
    text = request.get("text")
    wanted = text.get("format") if isinstance(text, dict) else None
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return None
    schema = wanted.get("schema")
    return schema if isinstance(schema, dict) else None


def _options(request: JSON) -> JSON:
    given: JSON = {}
    for theirs, ours in (("temperature", "temperature"), ("top_p", "top_p"), ("max_output_tokens", "num_predict")):
        value = request.get(theirs)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise unfit(value, "ResponsesRequest", theirs, "int" if ours == "num_predict" else "float64")
        given[ours] = value
    return given
