"""Requests of /v1/messages, Anthropic's API as Ollama offers it. Source: ollama anthropic/anthropic.go."""

from __future__ import annotations

from typing import Any

from orchestrator.adapter import ask, messages, options
from orchestrator.adapter.ask import Ask
from orchestrator.adapter.config import Route
from orchestrator.adapter.refusals import Refusal, unfit, unsupported
from orchestrator.adapter.wire import JSON, compact

_SEARCH = "web_search"
_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "max"}


def checked(request: JSON) -> JSON:
    """Return the request when it has what Ollama demands; it looks at the name first."""
    if not request.get("model"):
        raise Refusal(400, "model is required", early=True)
    most = request.get("max_tokens")
    if isinstance(most, bool) or not isinstance(most, int | float | None):
        raise _unfit(most, "max_tokens", "int")
    if not most or most <= 0:
        raise Refusal(400, "max_tokens is required and must be positive", early=True)
    return request


def chat(route: Route, request: JSON) -> Ask | str:
    """Translate /v1/messages; messages without words only load.

    Ignored, as by Ollama: tool_choice, metadata, cache_control, budget_tokens.
    """
    name = str(request["model"])
    given = spoken(request)
    if not given:
        return "load"
    conversation = messages.with_modelfile(route, messages.native(route, given))
    if route.embeds:
        raise unsupported(name, "chat")
    merged = options.native(route.parameters, _options(request))
    question = ask.build(route, name, merged, messages=conversation, stream=bool(request.get("stream")))
    messages.tools(route, tools(request), question.body)
    wanted = _think(request)
    ask.think(route, name, wanted if route.thinks else None, question.body)
    return question


def counted(route: Route, request: JSON) -> JSON:
    """Return the body for the engine's tokenizer: the same conversation, rendered but not answered."""
    conversation = messages.with_modelfile(route, messages.native(route, spoken(request)))
    body: JSON = {"model": route.served, "messages": conversation, "add_generation_prompt": True}
    messages.tools(route, tools(request), body)
    return body


def estimate(request: JSON) -> int:
    """Return a quarter of the letters: what Ollama says in the first event, before anything was counted."""
    letters = _letters(request.get("system"))
    for message in request.get("messages") or []:
        letters += len(str(message.get("role") or "")) + _letters(message.get("content"))
    for tool in request.get("tools") or []:
        letters += len(str(tool.get("name") or "")) + len(str(tool.get("description") or ""))
        letters += len(compact(tool.get("input_schema") or {}))
    return max(letters // 4, 1)


def spoken(request: JSON) -> list[JSON]:
    """Return the conversation in the form of Ollama's native API; raises Refusal for what Ollama refuses."""
    given = request.get("messages")
    if not given:
        raise Refusal(400, "messages is required", early=True)
    if not isinstance(given, list) or not all(isinstance(message, dict) for message in given):
        raise _unfit(given, "messages", "[]anthropic.MessageParam")
    found: list[JSON] = []
    system = _plain(request.get("system"))
    if system:
        found.append({"role": "system", "content": system})
    for message in given:
        found += _message(message)
    return found


def tools(request: JSON) -> list[JSON]:
    """Return the tools in OpenAI's form; Anthropic's own web search becomes a function of that name."""
    given = request.get("tools")
    if given is not None and not (isinstance(given, list) and all(isinstance(tool, dict) for tool in given)):
        raise _unfit(given, "tools", "[]anthropic.Tool")
    found = []
    searching = any(_is_search(tool) for tool in given or [])
    for tool in given or []:
        if searching and not _is_search(tool) and tool.get("name") == _SEARCH:
            continue
        found.append(_SEARCH_TOOL if _is_search(tool) else _tool(tool))
    return found


def _tool(tool: JSON) -> JSON:
    function = {"name": tool.get("name") or "", "description": tool.get("description") or ""}
    return {"type": "function", "function": {**function, "parameters": tool.get("input_schema") or _NO_PARAMETERS}}


_NO_PARAMETERS: JSON = {"type": "object", "properties": {}}
_SEARCH_TOOL: JSON = {
    "type": "function",
    "function": {
        "name": _SEARCH,
        "description": "Look something up on the web.",
        "parameters": {"type": "object", "required": ["query"], "properties": {"query": {"type": "string"}}},
    },
}


def _is_search(tool: JSON) -> bool:
    return str(tool.get("type") or "").startswith(_SEARCH)


def _message(message: JSON) -> list[JSON]:
    """Return the messages that one becomes: results of tools come before a user's words, after all others'."""
    role = str(message.get("role") or "user").lower()
    content = message.get("content")
    if isinstance(content, str):
        return [{"role": role, "content": content}] if content else []
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise _unfit(content, "messages.content", "[]anthropic.ContentBlock")
    said: JSON = {}
    results: list[JSON] = []
    for block in content:
        _add(block, said, results)
    own = [{"role": role, "content": "", **said}] if said else []
    return results + own if role == "user" else own + results


def _add(block: JSON, said: JSON, results: list[JSON]) -> None:
    kind = block.get("type")
    if kind == "text":
        text = str(block.get("text") or "")
        if text:
            said["content"] = said.get("content", "") + text
    elif kind == "image":
        said["images"] = [*said.get("images", []), _image(block.get("source"), "invalid image source")]
    elif kind in ("tool_use", "server_tool_use"):
        said["tool_calls"] = [*said.get("tool_calls", []), _use(block)]
    elif kind == "thinking" and block.get("thinking"):
        said["thinking"] = str(block["thinking"])
    elif kind in ("tool_result", "web_search_tool_result"):
        results.append({"role": "tool", "tool_call_id": block.get("tool_use_id"), **_result(block.get("content"))})


def _use(block: JSON) -> JSON:
    for needed in ("id", "name"):
        if not block.get(needed):
            raise Refusal(400, f"tool_use block missing required '{needed}' field", early=True)
    return {"id": block["id"], "function": {"name": block["name"], "arguments": block.get("input") or {}}}


def _result(content: Any) -> JSON:
    if not isinstance(content, list):
        return {"content": content if isinstance(content, str) else ""}
    blocks = [block for block in content if isinstance(block, dict)]
    texts = [str(block.get("text") or "") for block in blocks if block.get("type") == "text"]
    texts += [f"- {one.get('title')}: {one.get('url')}\n" for one in blocks if one.get("type") == "web_search_result"]
    refused = "invalid tool_result image source"
    images = [_image(block.get("source"), refused) for block in blocks if block.get("type") == "image"]
    return {"content": "".join(texts), **({"images": images} if images else {})}


def _image(source: Any, refused: str) -> str:
    if not isinstance(source, dict):
        raise Refusal(400, refused, early=True)
    if source.get("type") != "base64":
        text = f"invalid image source type: {source.get('type') or ''}. Only base64 images are supported."
        raise Refusal(400, text, early=True)
    return str(source.get("data") or "")


def _plain(system: Any) -> str:
    if isinstance(system, list):
        blocks = [block for block in system if isinstance(block, dict) and block.get("type") == "text"]
        return "".join(str(block.get("text") or "") for block in blocks)
    return system if isinstance(system, str) else ""


def _options(request: JSON) -> JSON:
    given = {name: request[name] for name in ("temperature", "top_p", "top_k") if request.get(name) is not None}
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _unfit(value, name, "int" if name == "top_k" else "float64")
    given["num_predict"] = request["max_tokens"]
    stops = request.get("stop_sequences")
    if stops:
        if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
            raise _unfit(stops, "stop_sequences", "[]string")
        given["stop"] = stops
    return given


def _think(request: JSON) -> bool | str | None:
    thinking, config = request.get("thinking"), request.get("output_config")
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if kind in ("enabled", "disabled"):
        return bool(kind == "enabled")
    effort = str(config.get("effort") or "").strip().lower() if isinstance(config, dict) else ""
    return _EFFORTS.get(effort)


def _letters(content: Any) -> int:
    if isinstance(content, str):
        return len(content.encode())
    blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
    total = 0
    for block in blocks:
        total += sum(len(str(block.get(key) or "").encode()) for key in ("text", "thinking"))
        if block.get("type") in ("tool_use", "tool_result"):
            total += len(compact(block))
    return total


def _unfit(value: Any, field: str, kind: str) -> Refusal:
    return unfit(value, "MessagesRequest", field, kind)
