"""The body of a request, read as Ollama reads it."""

from __future__ import annotations

from starlette.requests import Request

from orchestrator.adapter import gojson, shapes
from orchestrator.adapter.refusals import Refusal, kind_of
from orchestrator.adapter.wire import JSON


async def body_of(request: Request, kind: str) -> JSON:
    """Return the JSON object of a request, whatever its content type; refusals use Go's words."""
    raw = await request.body()
    if not raw.strip():
        empty = "EOF" if request.url.path.startswith("/v1/") else "missing request body"
        raise Refusal(400, empty, early=True)
    try:
        value = gojson.loads(raw)
    except ValueError as error:
        raise Refusal(400, str(error), early=True) from error
    if value is None:  # Go takes null for an object without fields
        value = {}
    if not isinstance(value, dict):
        text = f"json: cannot unmarshal {kind_of(value)} into Go value of type {kind}"
        raise Refusal(400, text, early=True)
    shapes.check(kind, value)
    request.state.streams = value.get("stream") is not False
    return value


def name_of(body: JSON) -> str:
    name = body.get("model")
    return name if isinstance(name, str) else ""
