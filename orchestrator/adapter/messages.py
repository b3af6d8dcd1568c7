"""Conversations: Ollama's messages in OpenAI's form, with what the Modelfile adds."""

from __future__ import annotations

import json
import re
from typing import Any

from orchestrator.adapter.config import Route
from orchestrator.adapter.refusals import Refusal, go_type, images_refused, incapable
from orchestrator.adapter.wire import JSON

NO_URLS = "image URLs are not currently supported, please use base64 encoded data instead"
_DATA_URL = re.compile(r"data:(image/(jpeg|jpg|png|webp))?;base64,")
_MAGIC = {"iVBOR": "png", "/9j/": "jpeg", "R0lG": "gif", "UklG": "webp", "Qk": "bmp"}


def with_modelfile(route: Route, messages: list[JSON]) -> list[JSON]:
    """Put the Modelfile's MESSAGEs first, and its SYSTEM unless the client's first message is one."""
    fixed = native(route, list(route.messages))
    if route.system and not (messages and messages[0].get("role") == "system"):
        fixed.insert(0, {"role": "system", "content": route.system})
    return fixed + messages


def native(route: Route, messages: Any) -> list[JSON]:
    """Translate the messages of /api/chat; raises Refusal for shapes that Ollama refuses."""
    if not isinstance(messages, list) or not all(isinstance(item, dict) for item in messages):
        text = "json: cannot unmarshal into Go struct field ChatRequest.messages of type []api.Message"
        raise Refusal(400, text, early=True)
    pending: list[tuple[str, str]] = []  # (id, tool) of calls that wait for their result
    return [_message(route, message, pending) for message in messages]


def _message(route: Route, message: JSON, pending: list[tuple[str, str]]) -> JSON:
    result: JSON = {"role": message.get("role", "user"), "content": _content(route, message)}
    if message.get("thinking"):
        result["reasoning"] = message["thinking"]
    if calls := message.get("tool_calls"):
        result["tool_calls"] = [_call(call, at, pending) for at, call in enumerate(calls)]
    if result["role"] == "tool":
        result["tool_call_id"] = message.get("tool_call_id") or _answered(message, pending)
    return result


def _content(route: Route, message: JSON) -> str | list[JSON]:
    text = message.get("content") or ""
    images = message.get("images")
    if not images:
        return str(text)
    if not route.can("vision"):
        raise images_refused()
    return [{"type": "text", "text": str(text)}, *(image_part(str(image)) for image in images)]


def image_part(base64: str) -> JSON:
    """Return a content part; the type is told by the first letters of the base64 text."""
    kind = next((kind for magic, kind in _MAGIC.items() if base64.startswith(magic)), "png")
    return {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{base64}"}}


def image_data(url: Any) -> str:
    """Return the base64 text of a data URL; raises Refusal for every other URL, as Ollama does."""
    if not isinstance(url, str):
        raise Refusal(400, "invalid message format", early=True)
    if url.startswith(("http://", "https://")):
        raise Refusal(400, NO_URLS, early=True)
    found = _DATA_URL.match(url)
    if not found:
        raise Refusal(400, "invalid image input", early=True)
    return url[found.end() :]


def _call(call: JSON, at: int, pending: list[tuple[str, str]]) -> JSON:
    function = call.get("function") or {}
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments or {}, ensure_ascii=False)
    name = function.get("name", "")
    identity = call.get("id") or f"call_{len(pending)}_{at}"
    pending.append((identity, name))
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def _answered(message: JSON, pending: list[tuple[str, str]]) -> str:
    """Return the id of the call that a result without an id answers: the tool's first open one."""
    tool = message.get("tool_name") or message.get("name")
    for at, (identity, name) in enumerate(pending):
        if not tool or name == tool:
            del pending[at]
            return identity
    return "call_0_0"


def v1(route: Route, messages: Any) -> list[JSON]:
    """Check and tidy the messages of /v1/chat/completions."""
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, "[] is too short - 'messages'", early=True)
    if not all(isinstance(message, dict) for message in messages):
        raise Refusal(400, "json: cannot unmarshal into Go struct field of type openai.Message", early=True)
    return [_v1_message(route, message) for message in messages]


def _v1_message(route: Route, message: JSON) -> JSON:
    """Return a message with its content in one piece; content may only be missing beside calls."""
    content, calls = message.get("content"), message.get("tool_calls")
    if calls is not None:
        _check_calls(calls)
    if (content is None and calls is None) or not isinstance(content, str | list | None):
        raise Refusal(400, f"invalid message content type: {go_type(content)}", early=True)
    return {**message, "content": _parts(route, content)}


def _check_calls(calls: Any) -> None:
    try:
        fit = all(isinstance(json.loads(call["function"]["arguments"]), dict) for call in calls)
    except (KeyError, TypeError, ValueError):
        fit = False
    if not fit:
        raise Refusal(400, "invalid tool call arguments", early=True)


def _parts(route: Route, content: Any) -> Any:
    """Return plain text for text parts; images must be data URLs, as Ollama demands."""
    if not isinstance(content, list):
        return content
    images = [_check_part(part) for part in content]
    if not any(images):
        return "\n".join(part["text"] for part in content)
    if not route.can("vision"):
        raise images_refused()
    return content


def _check_part(part: Any) -> bool:
    """Return whether a part is an image; raises Refusal for one that Ollama does not know."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return False
    if kind != "image_url":
        raise Refusal(400, "invalid message format", early=True)
    image = part.get("image_url")
    image_data(image.get("url") if isinstance(image, dict) else image)
    return True


def tools(route: Route, wanted: Any, body: JSON) -> None:
    """Pass tools on; raises Refusal for a model that has none."""
    if not wanted:
        return
    if not route.can("tools"):
        raise incapable(route.name, "tools")
    body["tools"] = wanted
