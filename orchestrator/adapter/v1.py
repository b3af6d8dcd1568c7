"""Requests of Ollama's OpenAI-compatible API, reduced to what Ollama reads and given its defaults."""

from __future__ import annotations

from typing import Any

from orchestrator.adapter import ask, messages, options
from orchestrator.adapter.ask import Ask
from orchestrator.adapter.config import Route
from orchestrator.adapter.refusals import Refusal, go_type, incapable, unsupported
from orchestrator.adapter.wire import JSON

_EFFORTS = ("minimal", "low", "medium", "high", "xhigh", "ultra", "max", "none")


def chat(route: Route, request: JSON) -> Ask:
    """Translate /v1/chat/completions. Fields that Ollama has no name for are dropped, as it drops them.

    Among them: n, tool_choice, logit_bias, user, max_completion_tokens, parallel_tool_calls.
    """
    name = str(request["model"])
    conversation = messages.with_modelfile(route, messages.v1(route, request.get("messages")))
    wanted = effort(request)
    if route.embeds:
        raise unsupported(name, "chat")
    question = ask.build(
        route, name, _options(route, request), messages=conversation, stream=bool(request.get("stream"))
    )
    messages.tools(route, request.get("tools"), question.body)
    _respond_as(request.get("response_format"), question.body)
    ask.think(route, name, wanted, question.body)
    ask.logprobs(request.get("logprobs"), request.get("top_logprobs"), question.body)
    question.usage = _wants_usage(request)
    return question


def completion(route: Route, request: JSON) -> Ask | str:
    """Translate /v1/completions: Ollama puts the prompt into the chat template; an empty one only loads."""
    name = str(request["model"])
    prompt = request.get("prompt")
    if prompt is not None and not isinstance(prompt, str):
        kind = "array" if isinstance(prompt, list) else "number"
        text = f"json: cannot unmarshal {kind} into Go struct field CompletionRequest.prompt of type string"
        raise Refusal(400, text, early=True)
    if not prompt:
        return "load"
    if route.embeds:
        raise unsupported(name, "generate")
    if request.get("suffix"):
        raise incapable(route.name, "insert")
    for stop in request["stop"] if isinstance(request.get("stop"), list) else []:
        if not isinstance(stop, str):
            raise Refusal(400, f"invalid type for 'stop' field: {go_type(stop)}", early=True)
    conversation = messages.with_modelfile(route, [{"role": "user", "content": prompt}])
    question = ask.build(
        route, name, _options(route, request), messages=conversation, stream=bool(request.get("stream"))
    )
    ask.think(route, name, None, question.body)
    question.usage = _wants_usage(request)
    return question


def _options(route: Route, request: JSON) -> JSON:
    """Return the options that /v1 sets; numbers of a wrong type are refused, odd stops ignored."""
    given: JSON = {}
    for name in ("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty"):
        value = request.get(name)
        if value is not None:
            given[name] = _number(name, value)
    if request.get("max_tokens") is not None:
        given["num_predict"] = _number("max_tokens", request["max_tokens"])
    stop = request.get("stop")
    if isinstance(stop, str):
        given["stop"] = [stop]
    elif isinstance(stop, list):
        given["stop"] = [item for item in stop if isinstance(item, str)]
    return options.v1(route.parameters, given)


def _number(name: str, value: Any) -> float | int:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    kind = {str: "string", bool: "bool", list: "array"}.get(type(value), "object")
    text = f"json: cannot unmarshal {kind} into Go struct field ChatCompletionRequest.{name} of type float64"
    raise Refusal(400, text, early=True)


def _respond_as(wanted: Any, body: JSON) -> None:
    """Pass on the response formats that Ollama knows; a schema gets the name that vLLM demands."""
    kind = str(wanted.get("type")).strip().lower() if isinstance(wanted, dict) else None
    if kind == "json_object":
        body["response_format"] = {"type": "json_object"}
    elif kind == "json_schema":
        named = wanted.get("json_schema")
        schema = named.get("schema") if isinstance(named, dict) else None
        if schema is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "response", "schema": schema},
            }


def effort(request: JSON) -> str | bool | None:
    """Return what to do about thinking; raises Refusal for a word that Ollama does not know."""
    reasoning = request.get("reasoning")
    wanted = reasoning.get("effort") if isinstance(reasoning, dict) else None
    wanted = wanted or request.get("reasoning_effort")
    if not wanted:
        return None
    if wanted not in _EFFORTS:
        shown = ", ".join(f'"{word}"' for word in _EFFORTS[:-1])
        raise Refusal(400, f'invalid reasoning value: "{wanted}" (must be {shown}, or "none")', early=True)
    levels: dict[str, str | bool] = {"none": False, "minimal": "low", "xhigh": "max", "ultra": "max"}
    return levels.get(wanted, str(wanted))


def _wants_usage(request: JSON) -> bool:
    wanted = request.get("stream_options")
    return isinstance(wanted, dict) and bool(wanted.get("include_usage"))
