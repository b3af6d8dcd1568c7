"""Embeddings: /api/embed, /api/embeddings and /v1/embeddings on top of vLLM's /v1/embeddings."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

from orchestrator.adapter.config import Route
from orchestrator.adapter.heard import UNREADABLE, counts
from orchestrator.adapter.refusals import (
    NO_EMBEDDINGS,
    NO_PATH,
    EngineFault,
    Refusal,
    overflow_limit,
    refusal_of,
    runner_error,
)
from orchestrator.adapter.wire import JSON, float32

PATH = "/v1/embeddings"


def native_inputs(request: JSON) -> list[str]:
    """Return the texts of /api/embed; an empty text alone is nothing, as in Ollama."""
    given = request.get("input")
    if given is None or given == "":
        return []
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Refusal(400, "invalid input type")
    return texts


def v1_inputs(request: JSON) -> list[str]:
    """Return the texts of /v1/embeddings; raises Refusal for what Ollama refuses, token lists too."""
    given = request.get("input")
    if given is None or given == []:
        raise Refusal(400, "invalid input", early=True)
    form = request.get("encoding_format") or "float"
    if str(form).lower() not in ("float", "base64"):
        text = f"Invalid value for 'encoding_format' = {form}. Supported values: ['float', 'base64']."
        raise Refusal(400, text, early=True)
    if given == "":
        raise Refusal(400, "input exceeds maximum context length and cannot be truncated further")
    return native_inputs(request)


def question(route: Route, texts: list[str], *, truncate: bool) -> JSON:
    """Return vLLM's request; Ollama cuts texts that are too long unless told not to."""
    body: JSON = {"model": route.served, "input": texts, "encoding_format": "float"}
    if truncate:
        body["truncate_prompt_tokens"] = -1
    return body


def refusal(fault: EngineFault, name: str, context_length: int) -> Refusal:
    """Return Ollama's answer to a failure; vLLM has no such path when the model does not embed."""
    if fault.status == 404 and fault.message == NO_PATH:
        return Refusal(501, NO_EMBEDDINGS)
    if overflow_limit(fault, context_length):
        return Refusal(400, "the input length exceeds the context length")
    return refusal_of(fault, name, context_length)


def vectors(data: JSON, dimensions: Any = None, *, count: int) -> list[list[float]]:
    """Return the vectors of `count` inputs in their order, cut to `dimensions` and of length 1.

    Raises Refusal for an answer that does not hold them.
    """
    size = dimensions if isinstance(dimensions, int) and dimensions > 0 else None
    entries = data.get("data")
    try:
        ordered = sorted(entries or [], key=lambda entry: int(entry["index"]))
        found = [_normalised(entry["embedding"][:size]) for entry in ordered]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _unreadable("no vectors") from error
    if len(found) != count:
        raise _unreadable(f"{len(found)} vectors for {count} inputs")
    return found


def _unreadable(why: str) -> Refusal:
    return Refusal(502, runner_error(f"{UNREADABLE}: {why}"), of_engine=True)


def tokens(data: JSON) -> int:
    """Return the number of prompt tokens."""
    return int((counts(data.get("usage")) or {}).get("prompt_tokens", 0))


def native_answer(name: str, found: list[list[float]], total_ns: int, load_ns: int, count: int) -> JSON:
    """Return the answer of /api/embed; measures that are zero are left out."""
    measures = {"total_duration": total_ns, "load_duration": load_ns, "prompt_eval_count": count}
    return {"model": name, "embeddings": found, **{key: value for key, value in measures.items() if value}}


def v1_answer(name: str, found: list[list[float]], form: str, count: int) -> JSON:
    """Return the answer of /v1/embeddings; base64 is of little-endian 32-bit floats."""
    data = [
        {"object": "embedding", "embedding": _packed(vector) if form == "base64" else vector, "index": at}
        for at, vector in enumerate(found)
    ]
    usage = {"prompt_tokens": count, "total_tokens": count}
    return {"object": "list", "data": data, "model": name, "usage": usage}


def _normalised(vector: list[float]) -> list[float]:
    """Return the vector with length 1; raises ValueError or TypeError for one that is no list of numbers."""
    if not isinstance(vector, list) or not vector:
        raise TypeError("no list of numbers")
    length = math.sqrt(sum(value * value for value in vector))
    if not math.isfinite(length):
        raise ValueError("not finite")
    return [float32(value / length) for value in vector] if length else [float(value) for value in vector]


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
