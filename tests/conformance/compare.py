"""Two answers side by side: status, media type, framing, keys and types, reasons, and the texts of errors.

Ids, times, counts and generated text are compared by type only.
"""

from __future__ import annotations

import json
import re
from typing import Any

from recorded import Case

# Values that are part of the protocol; everything else is compared by type.
EXACT = {
    "object", "role", "type", "done", "done_reason", "finish_reason", "stop_reason", "owned_by", "model", "status",
    "error", "detail", "is_sleeping", "encoding_format", "tool_choice", "truncation", "service_tier",
    "code", "param", "index", "format", "root", "server_load",
}  # fmt: skip
MASKS = (
    (re.compile(r"request \(\d+ tokens\)"), "request (N tokens)"),
    (re.compile(r'"n_prompt_tokens":\d+'), '"n_prompt_tokens":N'),
    (re.compile(r'\\?"n_prompt_tokens\\?":\d+'), '"n_prompt_tokens":N'),
    (re.compile(r"lookup (\S+) on [\d.:]+: "), r"lookup \1: "),
    (re.compile(r"sha256:[0-9a-f]{64}"), "sha256:DIGEST"),
    (re.compile(r"(open ).*(?=/(manifests|blobs)/)"), r"\1STORE"),
)
TEXT_DECIDES = {"finish_reason", "stop_reason", "done_reason"}


def mask(text: str) -> str:
    for pattern, instead in MASKS:
        text = pattern.sub(instead, text)
    return text


def text_decides(case: Case) -> bool:
    """Return whether the model's own words decide how the answer ends."""
    request = case.request
    options = request.get("options") or {}
    limited = any(
        isinstance(v, int) and v > 0
        for v in (options.get("num_predict"), *(request.get(k) for k in ("max_tokens", "max_output_tokens")))
    )
    free = ("stop", "stop_sequences", "format", "response_format", "structured_outputs", "text", "tool_choice")
    constrained = any(request.get(k) for k in free) or options.get("stop")
    endless = case.server == "ollama" and not limited
    return bool(constrained or endless or request.get("truncate_prompt_tokens"))


def shape(value: Any, *, loose: bool, key: str = "", outer: str = "", errors: bool = False) -> Any:
    """Return what is compared of a JSON value; `loose` leaves out how the text ended."""
    if isinstance(value, dict):
        if "logprob" in value:  # a token without bytes of its own has no such key
            value = {"bytes": [0], **value}
        inside = errors or key == "error"
        return {k: shape(v, loose=loose, key=k, outer=key, errors=inside) for k, v in sorted(value.items())}
    if isinstance(value, list):
        kinds: list[Any] = []
        for item in value:
            found = shape(item, loose=loose, key=f"{key}[]", errors=errors)
            if isinstance(found, dict):
                found.pop("index", None)
            if found not in kinds:
                kinds.append(found)
        return kinds
    if loose and key in TEXT_DECIDES and value is not None:
        return "how the text ended" if key != "stop_reason" else "any"
    if loose and key == "stop_reason":
        return "any"
    listed = (outer, key) in {("models[]", "model"), ("data[]", "model"), ("tensors[]", "type")}
    if (key in EXACT or errors) and not listed and not isinstance(value, float):
        return mask(value) if isinstance(value, str) else value
    if isinstance(value, bool) or value is None:
        return value
    return "number" if isinstance(value, (int, float)) else "text"


def frames(body: str, content_type: str | None) -> list[tuple[str, Any]]:
    """Split a body into its frames: (kind of framing, JSON value or text)."""
    kind = (content_type or "").split(";")[0]
    if kind == "text/event-stream":
        assert body.endswith("\n\n"), "the last event is not closed by an empty line"
        return [_event(e) for e in body.rstrip("\n").split("\n\n")]
    if kind == "application/x-ndjson":
        assert body.endswith("\n"), "the last line is not closed"
        return [("line", json.loads(line)) for line in body.splitlines()]
    if kind == "application/json" and body:
        return [("newline" if body.endswith("\n") else "json", json.loads(body))]
    return [("text", body)]


def _event(event: str) -> tuple[str, Any]:
    name, data = "", ""
    for line in event.split("\n"):
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            data += value
    return f"event {name}", data if data == "[DONE]" else json.loads(data)


def skeleton(case: Case, body: str, content_type: str | None) -> list[Any]:
    """Return the frames' shapes, repeated ones once; the order of kinds stays."""
    loose = text_decides(case)
    found: list[Any] = []
    for kind, value in frames(body, content_type):
        kept = value if isinstance(value, str) else shape(value, loose=loose)
        if not found or found[-1] != (kind, kept):
            found.append((kind, kept))
    return found


def metric_names(body: str) -> set[str]:
    return set(re.findall(r"^# TYPE (vllm:\S+) ", body, re.MULTILINE))
