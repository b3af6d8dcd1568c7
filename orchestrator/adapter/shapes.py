"""The types of Ollama's requests: what Go's decoder refuses is refused, in its words.

A shape is the name of a Go type, a list with the shape of an element, or a tuple of a struct's name and its fields.
Null fits everywhere, and fields that are not named are ignored. Source: ollama api/types.go, openai/, anthropic/.
"""

from __future__ import annotations

from typing import Any

from orchestrator.adapter.refusals import Refusal, kind_of
from orchestrator.adapter.wire import JSON

Shape = Any  # str | list[Shape] | tuple[str, dict[str, Shape]]
ANY = "any"
MAP = "map[string]interface {}"

_TOOLS = [("api.Tool", {"type": "string", "function": ANY})]
_CALL = ("api.ToolCall", {"id": "string", "function": ("api.ToolCallFunction", {"name": "string", "arguments": ANY})})
_MESSAGE = ("api.Message", {
    "role": "string", "content": "string", "thinking": "string", "images": ["api.ImageData"], "tool_calls": [_CALL],
    "tool_name": "string", "tool_call_id": "string",
})  # fmt: skip
_NATIVE = {
    "model": "string", "stream": "bool", "options": MAP, "truncate": "bool", "shift": "bool", "logprobs": "bool",
    "top_logprobs": "int", "_debug_render_only": "bool",
}  # fmt: skip
_V1_CALL = ("openai.ToolCall", {
    "id": "string", "index": "int", "type": "string",
    "function": ("", {"name": "string", "arguments": "string"}),
})  # fmt: skip
_V1_MESSAGE = ("openai.Message", {
    "role": "string", "reasoning": "string", "tool_calls": [_V1_CALL], "name": "string", "tool_call_id": "string",
})  # fmt: skip
_STREAM_OPTIONS = ("openai.StreamOptions", {"include_usage": "bool"})
_SCHEMA = ("openai.JsonSchema", {"schema": ANY})
_FORMAT = ("openai.ResponsesTextFormat", {"type": "string", "name": "string", "strict": "bool"})
_ANTHROPIC_TOOL = ("anthropic.Tool", {"type": "string", "name": "string", "description": "string"})
_RESPONSES_TOOL = ("openai.ResponsesTool", {
    "type": "string", "name": "string", "description": "string", "strict": "bool", "parameters": MAP,
})  # fmt: skip

REQUESTS: dict[str, dict[str, Shape]] = {
    "api.ChatRequest": {**_NATIVE, "messages": [_MESSAGE], "tools": _TOOLS},
    "api.GenerateRequest": {
        **_NATIVE, "prompt": "string", "suffix": "string", "system": "string", "template": "string", "raw": "bool",
        "context": ["int"], "images": ["api.ImageData"],
    },
    "api.EmbedRequest": {"model": "string", "truncate": "bool", "dimensions": "int", "options": MAP},
    "api.EmbeddingRequest": {"model": "string", "prompt": "string", "options": MAP},
    "api.ShowRequest": {"model": "string", "name": "string", "system": "string", "verbose": "bool", "options": MAP},
    "openai.ChatCompletionRequest": {
        "model": "string", "messages": [_V1_MESSAGE], "stream": "bool", "stream_options": _STREAM_OPTIONS,
        "max_tokens": "int", "seed": "int", "temperature": "float64", "frequency_penalty": "float64",
        "presence_penalty": "float64", "top_p": "float64", "tools": _TOOLS,
        "response_format": ("openai.ResponseFormat", {"type": "string", "json_schema": _SCHEMA}),
        "reasoning": ("openai.Reasoning", {"effort": "string"}), "reasoning_effort": "string", "logprobs": "bool",
        "top_logprobs": "int",
    },
    "openai.CompletionRequest": {
        "model": "string", "prompt": "string", "frequency_penalty": "float32", "max_tokens": "int",
        "presence_penalty": "float32", "seed": "int", "stream": "bool", "stream_options": _STREAM_OPTIONS,
        "temperature": "float32", "top_p": "float32", "suffix": "string",
    },
    "openai.EmbedRequest": {"model": "string", "dimensions": "int", "encoding_format": "string"},
    "openai.ResponsesRequest": {
        "model": "string", "background": "bool", "instructions": "string", "max_output_tokens": "int",
        "reasoning": ("openai.ResponsesReasoning", {"effort": "string", "summary": "string"}),
        "temperature": "float64", "text": ("openai.ResponsesText", {"format": _FORMAT}), "top_p": "float64",
        "truncation": "string", "tools": [_RESPONSES_TOOL], "stream": "bool",
    },
    "anthropic.MessagesRequest": {
        "model": "string", "max_tokens": "int", "messages": [("anthropic.MessageParam", {"role": "string"})],
        "stream": "bool", "temperature": "float64", "top_p": "float64", "top_k": "int",
        "stop_sequences": ["string"], "tools": [_ANTHROPIC_TOOL],
        "thinking": ("anthropic.ThinkingConfig", {"type": "string", "budget_tokens": "int"}),
        "output_config": ("anthropic.OutputConfig", {"effort": "string"}),
    },
}  # fmt: skip
_PLAIN: dict[str, tuple[type, ...]] = {
    "string": (str,), "bool": (bool,), "int": (int,), "float32": (int, float), "float64": (int, float), MAP: (dict,),
    "api.ImageData": (str,),
}  # fmt: skip


def check(kind: str, body: JSON) -> None:
    """Raise Refusal when a field of a request has a type that Ollama refuses; `kind` is the request's Go type."""
    _struct(body, kind, REQUESTS[kind], "")


def _struct(value: JSON, name: str, fields: dict[str, Shape], path: str) -> None:
    for key, inner in value.items():
        if key in fields and inner is not None:
            _value(inner, fields[key], name.rpartition(".")[2], f"{path}.{key}" if path else key)


def _value(value: Any, shape: Shape, struct: str, path: str) -> None:
    if shape == ANY:
        return
    if isinstance(shape, tuple):
        if not isinstance(value, dict):
            raise _refusal(value, struct, path, shape[0] or "struct {}")
        _struct(value, shape[0] or struct, shape[1], path)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise _refusal(value, struct, path, _named(shape))
        for one in value:
            if one is not None or isinstance(shape[0], tuple):
                _value(one if one is not None else {}, shape[0], struct, path)
    elif not isinstance(value, _PLAIN[shape]) or (isinstance(value, bool) and shape != "bool"):
        raise _refusal(value, struct, path, shape)


def _named(shape: Shape) -> str:
    if isinstance(shape, list):
        return f"[]{_named(shape[0])}"
    return str(shape[0] if isinstance(shape, tuple) else shape)


def _refusal(value: Any, struct: str, path: str, kind: str) -> Refusal:
    found = f"number {value!r}" if isinstance(value, float) and kind == "int" else kind_of(value)
    text = f"json: cannot unmarshal {found} into Go struct field {struct}.{path} of type {kind}"
    return Refusal(400, text, early=True)
