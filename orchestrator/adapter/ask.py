"""A question in vLLM's words, and what the answer needs to know about the question."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from orchestrator.adapter import options as opts
from orchestrator.adapter.config import Route
from orchestrator.adapter.refusals import Refusal, unsupported
from orchestrator.adapter.wire import JSON

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"


@dataclass(slots=True)
class Ask:
    """One request to an engine. `body` always asks for a stream; `stream` is what the client asked."""

    route: Route
    name: str
    path: str
    body: JSON
    stream: bool
    truncate: bool = True
    usage: bool = False
    context: list[int] = field(default_factory=list)
    scan: tuple[str, ...] = ()


def build(
    route: Route,
    name: str,
    options: JSON,
    *,
    messages: list[JSON] | None = None,
    prompt: str = "",
    stream: bool,
) -> Ask:
    """Return the question with the sampling fields and the stop words that belong to it."""
    stops, scan = opts.split_stops(options)
    body: JSON = {"model": route.served}
    body |= {"prompt": prompt} if messages is None else {"messages": messages}
    body |= opts.sampling(options)
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    if stops:
        body["stop"] = stops
    if scan:  # we end the stream ourselves, so the last usage must be in every chunk
        body["stream_options"]["continuous_usage_stats"] = True
    _bound(body, route)
    path = TEXT if messages is None else CHAT
    return Ask(route, name, path, body, stream, scan=scan)


def render_request(body: JSON) -> JSON:
    """Return the request to vLLM's tokenizer that renders a conversation as the question would be."""
    asked = {"model": body["model"], "messages": body["messages"], "add_generation_prompt": True}
    return asked | {key: body[key] for key in ("tools", "chat_template_kwargs") if key in body}


def _bound(body: JSON, route: Route) -> None:
    """Keep `max_tokens` inside the engine: more than the context is unlimited; a bare prompt needs a number.

    vLLM's default is 16 tokens for /v1/completions and the rest of the context for chat.
    """
    if route.context_length and body.get("max_tokens", 0) >= route.context_length:
        del body["max_tokens"]
    if "prompt" in body and "max_tokens" not in body and route.context_length:
        body["max_tokens"] = route.context_length - 1


def think(route: Route, name: str, wanted: Any, body: JSON) -> None:
    """Switch thinking as asked: on by default for a model that can, refused for one that cannot."""
    if wanted in (None, "") and route.thinks:
        wanted = True
    if wanted in (None, "", False):
        if route.thinks:
            body["chat_template_kwargs"] = {"enable_thinking": False, "thinking": False}
        return
    if not isinstance(wanted, bool) and wanted not in ("low", "medium", "high", "max"):
        text = f'invalid think value: "{wanted}" (must be "high", "medium", "low", "max", true, or false)'
        raise Refusal(400, text, early=True)
    if not route.thinks:
        raise unsupported(name, "thinking")
    body["chat_template_kwargs"] = {"enable_thinking": True, "thinking": True}
    if isinstance(wanted, str):
        body["reasoning_effort"] = "high" if wanted == "max" else wanted


def constrain(form: Any, body: JSON) -> None:
    """Translate `format`: "json", a JSON schema, or nothing; raises Refusal for anything else."""
    if form in (None, "", {}):
        return
    if form == "json":
        body["response_format"] = {"type": "json_object"}
    elif isinstance(form, dict):
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "format", "schema": form}}
    else:
        shown = json.dumps(form, ensure_ascii=False)
        raise Refusal(400, f'invalid format: {shown}; expected "json" or a valid JSON Schema object')


def logprobs(wanted: Any, top: Any, body: JSON) -> None:
    """Translate logprobs; `top_logprobs` counts only beside them, as in Ollama."""
    if top is not None and (not isinstance(top, int) or not 0 <= top <= 20):
        raise Refusal(400, "top_logprobs must be between 0 and 20")
    if not wanted:
        return
    if "prompt" in body:
        body["logprobs"] = max(int(top or 0), 1)
    else:
        body |= {"logprobs": True, "top_logprobs": int(top or 0)}
