"""The body of a request, read as Ollama reads it."""

from __future__ import annotations

import json

from starlette.requests import Request

from orchestrator.adapter.refusals import Refusal
from orchestrator.adapter.wire import JSON


async def body_of(request: Request, kind: str) -> JSON:
    """Return the JSON object of a request, whatever its content type; refusals use Go's words."""
    raw = await request.body()
    if not raw.strip():
        empty = "EOF" if request.url.path.startswith("/v1/") else "missing request body"
        raise Refusal(400, empty, early=True)
    try:
        value = json.loads(raw)
    except UnicodeDecodeError as error:
        raise Refusal(400, "invalid UTF-8 in request body", early=True) from error
    except json.JSONDecodeError as error:
        rest = error.doc[error.pos :].strip()
        text = f"invalid character '{rest[0]}' looking for beginning of value" if rest else "unexpected EOF"
        raise Refusal(400, text, early=True) from error
    if isinstance(value, dict):
        return value
    names = {list: "array", str: "string", bool: "bool", type(None): "null"}
    found = names.get(type(value), "number")
    raise Refusal(400, f"json: cannot unmarshal {found} into Go value of type {kind}", early=True)


def name_of(body: JSON) -> str:
    name = body.get("model")
    return name if isinstance(name, str) else ""
