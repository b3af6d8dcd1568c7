"""Answers that say no: Ollama's statuses and texts, and what vLLM's errors become."""

from __future__ import annotations

import json
import re
from typing import Any

from orchestrator.adapter.wire import JSON
from orchestrator.errors import MigrateError

MULTIMODAL = "Multimodal data provided, but model does not support multimodal requests."
NO_EMBEDDINGS = "This server does not support embeddings. Start it with `--embeddings`"
NO_PATH = "Not Found"  # vLLM's detail for a path that its task does not have
BUSY = "server busy, please try again.  maximum pending requests exceeded"


class Refusal(MigrateError):
    """A request that is answered with an error.

    `early` marks the ones that Ollama writes before its handlers, `of_engine` those that its engine spoke.
    """

    def __init__(self, status: int, message: str, *, early: bool = False, of_engine: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.early = early
        self.of_engine = of_engine


def unknown_model(name: str) -> Refusal:
    return Refusal(404, f"model '{name}' not found")


_KINDS = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}


def kind_of(value: Any) -> str:
    """Return what Go's decoder calls the type of a JSON value."""
    return _KINDS.get(type(value), "null")


_GO_TYPES = {str: "string", bool: "bool", int: "float64", float: "float64", list: "[]interface {}"}


def go_type(value: Any) -> str:
    """Return what Go prints for the type of a decoded JSON value."""
    return "<nil>" if value is None else _GO_TYPES.get(type(value), "map[string]interface {}")


def unfit(value: Any, struct: str, field: str, kind: str) -> Refusal:
    """Return the refusal of a value of the wrong type, in the words of Go's decoder."""
    text = f"json: cannot unmarshal {kind_of(value)} into Go struct field {struct}.{field} of type {kind}"
    return Refusal(400, text, early=True)


def unsupported(name: str, what: str) -> Refusal:
    return Refusal(400, f"{json.dumps(name, ensure_ascii=False)} does not support {what}")


def incapable(name: str, what: str) -> Refusal:
    """Return the refusal that carries the full name, as Ollama's capability check does."""
    return Refusal(400, f"{full_name(name)} does not support {what}")


def full_name(name: str) -> str:
    """Return `registry.ollama.ai/library/llama3.1:8b` for `llama3.1:8b`."""
    parts = name.split("/")
    if len(parts) == 1:
        return f"registry.ollama.ai/library/{name}"
    return f"registry.ollama.ai/{name}" if len(parts) == 2 else name


def runner_error(message: str) -> str:
    """Return what Ollama says when its engine dies while it answers."""
    return f"an error was encountered while running the model: {message}"


def nested(code: int, message: str, kind: str, **more: int) -> str:
    """Return the text in which Ollama passes on an error of llama-server: JSON inside the message."""
    error = {"code": code, "message": message, "type": kind, **more}
    return json.dumps({"error": error}, ensure_ascii=False, separators=(",", ":"))


def images_refused() -> Refusal:
    return Refusal(400, nested(400, MULTIMODAL, "invalid_request_error"), of_engine=True)


class EngineFault(MigrateError):
    """An error of the engine: HTTP status (or the code of an in-band frame) and its message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


_LIMIT = re.compile(r"maximum context length is (\d+)")
_COUNT = re.compile(r"contains at least (\d+) input tokens")
_TOO_MANY = re.compile(r"cannot be greater than max_model_len=(\d+)")


def overflow_limit(fault: EngineFault, known: int) -> int | None:
    """Return the engine's context length when the prompt did not fit, else None.

    A prompt that fills the context exactly is reported as `max_tokens must be at least 1, got 0`.
    """
    if fault.status != 400:
        return None
    if found := _LIMIT.search(fault.message):
        return int(found[1])
    return known if known and "max_tokens must be at least 1, got 0" in fault.message else None


def too_many_tokens(fault: EngineFault) -> int | None:
    """Return the engine's context length when `max_tokens` alone was larger."""
    found = _TOO_MANY.search(fault.message) if fault.status == 400 else None
    return int(found[1]) if found else None


def unknown_token(fault: EngineFault) -> bool:
    """Tell whether a prompt held a token that the engine's vocabulary has not."""
    return fault.status == 400 and "out of vocabulary" in fault.message


def refusal_of(fault: EngineFault, name: str, context_length: int = 0) -> Refusal:
    """Return what Ollama would have answered where vLLM answered this."""
    message = fault.message
    if limit := overflow_limit(fault, context_length):
        found = _COUNT.search(message)
        tokens = int(found[1]) if found else limit + 1
        text = f"request ({tokens} tokens) exceeds the available context size ({limit} tokens), try increasing it"
        inner = nested(400, text, "exceed_context_size_error", n_prompt_tokens=tokens, n_ctx=limit)
        return Refusal(400, inner, of_engine=True)
    if "tool choice requires" in message or "requires --tool-call-parser" in message:
        return incapable(name, "tools")
    if "is not a multimodal model" in message:
        return images_refused()
    if fault.status == 404:
        return unsupported(name, "chat") if message == NO_PATH else unknown_model(name)
    if fault.status == 503:
        return Refusal(503, BUSY)
    if 400 <= fault.status < 500 and fault.status not in {401, 403}:
        return Refusal(fault.status, nested(fault.status, message, "invalid_request_error"), of_engine=True)
    return Refusal(fault.status if fault.status in {502, 504} else 500, runner_error(message), of_engine=True)


def v1_error(status: int, message: str) -> JSON:
    """Return the body of an error in OpenAI's form, typed as Ollama types it."""
    kinds = {400: "invalid_request_error", 404: "not_found_error"}
    return {"error": {"message": message, "type": kinds.get(status, "api_error"), "param": None, "code": None}}
