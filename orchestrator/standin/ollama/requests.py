"""What a request asks for, checked in the order and with the words of the real server."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.standin.ollama import golang, names

Json = dict[str, Any]

# The Go type that each option decodes to.
OPTIONS = {
    "num_keep": "int", "seed": "int", "num_predict": "int", "top_k": "int", "top_p": "float32", "min_p": "float32",
    "typical_p": "float32", "repeat_last_n": "int", "temperature": "float32", "repeat_penalty": "float32",
    "presence_penalty": "float32", "frequency_penalty": "float32", "stop": "[]string", "num_ctx": "int",
    "num_batch": "int", "num_gpu": "int", "main_gpu": "int", "use_mmap": "*bool", "num_thread": "int",
    "draft_num_predict": "int",
}  # fmt: skip
SAID = {"int": "integer", "float32": "float32", "[]string": "array", "*bool": "bool"}

OBJECT_LISTS = (
    "[]api.Message", "api.Tools", "[]api.Tool", "[]openai.Message", "[]openai.ResponsesTool",
    "[]anthropic.MessageParam", "[]anthropic.Tool",
)  # fmt: skip
_GENERAL = {"model": "string", "stream": "*bool", "options": "map[string]interface {}"}
_CHAT = {
    "messages": "[]api.Message",
    "tools": "api.Tools",
    "truncate": "*bool",
    "shift": "*bool",
    "logprobs": "bool",
    "top_logprobs": "int",
}
_GENERATE = {"prompt": "string", "suffix": "string", "system": "string", "template": "string", "raw": "bool"}
_COMPLETION = {
    "model": "string", "prompt": "string", "stream": "bool", "suffix": "string", "max_tokens": "*int", "seed": "*int",
    "echo": "bool",
}  # fmt: skip
FIELDS: dict[str, dict[str, str]] = {
    "ChatRequest": {**_GENERAL, **_CHAT},
    "GenerateRequest": {
        **_GENERAL,
        **_GENERATE,
        "images": "[]api.ImageData",
        "context": "[]int",
        "logprobs": "bool",
        "top_logprobs": "int",
    },
    "EmbedRequest": {"model": "string", "truncate": "*bool", "dimensions": "int", "options": "map[string]interface {}"},
    "EmbeddingRequest": {"model": "string", "prompt": "string", "options": "map[string]interface {}"},
    "ShowRequest": {"model": "string", "name": "string", "verbose": "bool"},
    "DeleteRequest": {"model": "string", "name": "string"},
    "CopyRequest": {"source": "string", "destination": "string"},
    "CreateRequest": {
        "model": "string",
        "name": "string",
        "from": "string",
        "system": "string",
        "template": "string",
        "files": "map[string]string",
    },
    "PullRequest": {"model": "string", "name": "string", "stream": "*bool", "insecure": "bool"},
    "ChatCompletionRequest": {
        "model": "string",
        "stream": "bool",
        "max_tokens": "*int",
        "seed": "*int",
        "messages": "[]openai.Message",
        "tools": "[]api.Tool",
        "stream_options": "*openai.StreamOptions",
        "response_format": "*openai.ResponseFormat",
    },
    "CompletionRequest": _COMPLETION,
    "OpenAIEmbedRequest": {"model": "string", "dimensions": "int", "encoding_format": "string"},
    "MessagesRequest": {
        "model": "string",
        "max_tokens": "int",
        "stream": "bool",
        "messages": "[]anthropic.MessageParam",
        "tools": "[]anthropic.Tool",
    },
    "ResponsesRequest": {
        "model": "string",
        "stream": "*bool",
        "instructions": "string",
        "tools": "[]openai.ResponsesTool",
        "text": "*openai.ResponsesText",
    },
}


class Refusal(Exception):
    """An answer instead of a result: status and the error's text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def fits(value: Any, go: str) -> bool:
    go = go.removeprefix("*")
    if value is None:
        return True
    if go == "string":
        return isinstance(value, str)
    if go == "bool":
        return isinstance(value, bool)
    if go in {"int", "float32"}:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and (go == "float32" or float(value).is_integer())
    if go in OBJECT_LISTS:
        return isinstance(value, list) and all(isinstance(v, dict) for v in value)
    if go.startswith("[]"):
        return isinstance(value, list)
    return isinstance(value, dict)


def decode(body: bytes, struct: str, package: str = "api") -> Json:
    """Return the request's object, or refuse it as Go's JSON decoder would."""
    problem = golang.json_error(body)
    if problem:
        raise Refusal(400, problem)
    value, _ = json.JSONDecoder().raw_decode(body.decode("utf-8", "replace").lstrip())
    if not isinstance(value, dict):
        if value is None:
            return {}
        raise Refusal(400, f"json: cannot unmarshal {golang.kind(value)} into Go value of type {package}.{struct}")
    for field, go in FIELDS[struct].items():
        if not fits(value.get(field), go):
            given = golang.kind(value[field])
            shown = go.removeprefix("*")
            name = struct.removeprefix("OpenAI")
            raise Refusal(400, f"json: cannot unmarshal {given} into Go struct field {name}.{field} of type {shown}")
    return value


def check_options(options: Json) -> Json:
    """Return the options that Ollama knows; a wrong type is a 500 there."""
    known = {}
    for key, value in options.items():
        go = OPTIONS.get(key)
        if go is None or value is None:
            continue
        if not fits(value, go):
            raise Refusal(500, f'option "{key}" must be of type {SAID[go]}')
        known[key] = value
    return known


def keep_alive(value: Any) -> int | None:
    """Return nanoseconds, negative for ever, None when the request leaves it open."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise Refusal(400, f"unsupported keep_alive type {value!r}")
    if isinstance(value, str):
        try:
            return golang.parse_duration(value)
        except ValueError as error:
            raise Refusal(400, str(error)) from error
    return -1 if value < 0 else int(value * golang.SECOND)


def model_name(request: Json) -> str:
    """Return the name as asked; refuses none and a malformed one."""
    name = str(request.get("model") or request.get("name") or "")
    if not name:
        raise Refusal(400, "model is required")
    if not names.parse(name).valid:
        raise Refusal(400, "invalid model name")
    return name


def runner_error(message: str, status: int = 400, **more: Any) -> Refusal:
    """Return a refusal that the inner llama-server spoke: its JSON is the text of Ollama's error."""
    kind = more.pop("type", "invalid_request_error")
    inner = {"error": {"code": status, "message": message, "type": kind, **more}}
    return Refusal(status, json.dumps(inner, ensure_ascii=False, separators=(",", ":")))
