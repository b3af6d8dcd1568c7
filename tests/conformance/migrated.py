"""Recordings that concern the API of a migrated model: the routes they need, the judgement, and what may differ.

One judge for all places where they are replayed: adapter before a small engine, gateway before the stand-in,
gateway before a real vLLM.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import compare
import unsupported
from recorded import Case

Json = dict[str, Any]
ASKED = (
    "/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/v1/chat/completions", "/v1/completions",
    "/v1/embeddings", "/v1/responses", "/v1/messages",
)  # fmt: skip
LISTED = ("/api/show", "/api/tags", "/api/ps", "/api/version", "/v1/models")
DESCRIBED: Json = json.loads((Path(__file__).parent / "models.json").read_text())
EMBED_PATHS = ("/api/embed", "/api/embeddings", "/v1/embeddings")


EVERYWHERE = frozenset({"fake", "standin", "vllm"})


@dataclass(frozen=True)
class Difference:
    """An answer that is not Ollama's, and why; `status` is what comes instead, None when only the words differ."""

    matches: Callable[[Case], object]
    why: str
    status: int | None = None
    where: frozenset[str] = EVERYWHERE


def _asks(key: str) -> Callable[[Case], object]:
    return lambda case: case.request.get(key)


DIFFERENCES = [
    Difference(
        lambda c: c.path.startswith("/v1/messages/count_tokens") and c.status == 404,
        "Ollama has no such path; the engine counts",
        200,
    ),
    Difference(
        lambda c: c.request.get("template") and '"template: ' in c.body,
        "`template` of a request is not read: the engine renders with its own",
        200,
    ),
    Difference(
        lambda c: c.status == 400 and "JSON schema conversion failed" in c.body,
        "the engine's grammar judges schemas, in its own words",
    ),
    Difference(
        lambda c: c.status == 400 and "JSON schema conversion failed" in c.body,
        "the small engine takes every schema",
        200,
        frozenset({"fake"}),
    ),
    Difference(
        lambda c: c.status == 200 and ('"tool_calls":[' in c.body or '"function_call"' in c.body),
        "whether a tool is called is the model's word",
        200,
    ),
    Difference(
        lambda c: c.status == 200 and c.request.get("suffix"),
        "`suffix`: the engine does not fill in the middle",
        400,
    ),
    Difference(
        lambda c: c.status == 200 and (b'"images"' in c.sent or b'"image_url"' in c.sent or b'"type": "image"' in c.sent),
        "neither the stand-in nor the tiny model sees",
        400,
        frozenset({"standin", "vllm"}),
    ),
    Difference(
        lambda c: c.status == 200 and ('"thinking":"' in c.body or '"reasoning":"' in c.body),
        "the tiny model has no words for thinking",
        200,
        frozenset({"vllm"}),
    ),
]


def concerns(case: Case) -> bool:
    """Tell whether a recording is about a model that an engine could serve."""
    if case.server != "ollama" or unsupported.reason(case) or case.method == "OPTIONS":
        return False
    if "origin" in {name.lower() for name in case.headers} or case.status == 403:
        return False
    path = case.path.split("?")[0]
    if path in ASKED or path == "/v1/messages/count_tokens":
        return True
    return path in LISTED[:1] or path.startswith("/v1/models/") or path in ("/api/version", "/v1/models")


def difference(case: Case, place: str) -> Difference | None:
    """Return the declared difference that a case falls under at a place, the most specific one."""
    found = [one for one in DIFFERENCES if place in one.where and one.matches(case)]
    return min(found, key=lambda one: len(one.where), default=None)


def tagged(name: str) -> str:
    """Return a name with its tag."""
    return name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"


def models(cases: list[Case]) -> dict[str, Json]:
    """Return what a route must know of each model that the cases ask for with success.

    Known ones come from models.json; of others the answers tell what they can do.
    """
    found = {tagged(name): _described(known) for name, known in DESCRIBED.items()}
    lower = {name.lower() for name in found}
    for case in cases:
        asked = case.request.get("model") or case.request.get("name")
        if case.status == 404 or not isinstance(asked, str) or not re.fullmatch(r"[\w.:/-]+", asked):
            continue
        name = tagged(asked.lower().removeprefix("registry.ollama.ai/").removeprefix("library/"))
        if name not in lower or name not in found:
            found.setdefault(name, {"capabilities": []})
        _learn(found[name], case, known=name in lower)
    for model in found.values():
        model["capabilities"] = model["capabilities"] or ["completion"]
    return found


def _described(known: Json) -> Json:
    kept = {key: known[key] for key in ("system", "messages", "parameters") if known.get(key)}
    return {"capabilities": list(known["capabilities"]), **kept}


def _learn(model: Json, case: Case, *, known: bool) -> None:
    """Add what an answer shows that the model can do."""
    if known or case.status != 200:
        return
    can = model["capabilities"]
    shown = ["embedding"] if case.path in EMBED_PATHS else ["completion"]
    if '"images"' in case.sent.decode("utf-8", "replace") or b"image_url" in case.sent:
        shown.append("vision")
    if case.request.get("tools"):
        shown.append("tools")
    if case.request.get("think") or '"thinking":"' in case.body or '"reasoning":"' in case.body:
        shown.append("thinking")
    model["capabilities"] = sorted({*can, *shown})


def judge(case: Case, status: int, kind: str | None, body: str, *, place: str, by: str = "adapter") -> str | None:
    """Return what is wrong with an answer, or None when it is as recorded or as declared.

    `by`: who answered. vLLM itself (`direct`) has all of Ollama's fields among its own; where the stand-in Ollama
    answered, the order of fields is its own.
    """
    declared = difference(case, place)
    expected = declared.status if declared and declared.status else case.status
    if status != expected:
        return f"status {status} instead of {expected}: {body[:300]}"
    if declared:
        return None
    if by == "direct":
        return _direct(case, kind, body)
    if kind != case.content_type:
        return f"content type {kind} instead of {case.content_type}"
    if case.method == "HEAD":
        return "a body" if body else None
    real, ours = compare.skeleton(case, _masked(case.body), kind), compare.skeleton(case, _masked(body), kind)
    if case.status == 200 and place != "standin":
        real, ours = loosened(real), loosened(ours)
    if real != ours:
        return f"frames differ\nOllama {json.dumps(real)}\nours   {json.dumps(ours)}"
    real_order, our_order = _orders(case.body, kind), _orders(body, kind)
    return None if by == "ollama" or real_order == our_order else f"order of fields\nOllama {real_order}\nours   {our_order}"


def loosened(frames: list[Any]) -> list[Any]:
    """Return frames without how the text ended: another model's words decide that."""
    text = re.sub(r', "(thinking|reasoning)": "text"', "", json.dumps(frames))
    text = text.replace('"delta": {"content": "text", "role": "assistant"}', '"delta": {"content": "text"}')
    text = re.sub(r'"(done_reason|finish_reason)": "(stop|length|how the text ended)"', r'"\1": "ended"', text)
    text = re.sub(r'"stop_reason": "(any|max_tokens|end_turn)"', '"stop_reason": "ended"', text)
    found: list[Any] = []
    for frame in json.loads(text):
        if frame not in found[-1:]:
            found.append(frame)
    return found


def _masked(body: str) -> str:
    """Return a body without the size of the context, which is the engine's."""
    body = re.sub(r"context size \(\d+ tokens\)", "context size (N tokens)", body)
    return re.sub(r'(n_ctx\\*":)\d+', r"\1 0", body)


def _orders(body: str, kind: str | None) -> list[Any]:
    """Return the keys of the first and the last object, in their order."""
    values = [value for _, value in compare.frames(body, kind) if isinstance(value, dict)]
    return [_keys(value) for value in (values[:1] + values[-1:])]


def _keys(value: Any) -> Any:
    if isinstance(value, dict):
        return [(name, _keys(inner)) for name, inner in value.items()]
    return _keys(value[0]) if isinstance(value, list) and value else None


def _direct(case: Case, kind: str | None, body: str) -> str | None:
    if (kind or "").split(";")[0] != (case.content_type or "").split(";")[0]:
        return f"content type {kind} instead of {case.content_type}"
    real = [value for _, value in compare.frames(case.body, case.content_type)]
    ours = [value for _, value in compare.frames(body, kind)]
    if (real[-1] == "[DONE]") != (ours[-1] == "[DONE]"):
        return "the terminator"
    said: Any = None
    for value in ours:  # the role is in a frame of its own there
        said = merged(said, value) if isinstance(value, dict) else said
    for value in (real[0], *real[-2:]):
        if isinstance(value, dict) and not within(value, said):
            return f"the fields of {json.dumps(value)} are not all in {body[:600]}"
    return None


def merged(one: Any, other: Any) -> Any:
    """Return a value with the fields of both."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {key: merged(one.get(key), other.get(key)) for key in (*one, *other)}
    if isinstance(one, list) and isinstance(other, list):
        return [merged(one[0], other[0])] if one and other else one or other
    return other if one is None else one


def within(real: Any, ours: Any) -> bool:
    """Tell whether all fields of a value are in another, with values of the same kind."""
    if real is None:
        return True
    if isinstance(real, dict):
        return isinstance(ours, dict) and all(name in ours and within(real[name], ours[name]) for name in real)
    if isinstance(real, list):
        return isinstance(ours, list) and (not real or not ours or within(real[0], ours[0]))
    numbers = isinstance(real, int | float) and isinstance(ours, int | float)
    return numbers or isinstance(ours, type(real))
