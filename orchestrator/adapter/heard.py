"""What an engine says, read with care: JSON of any shape becomes what was meant, or an EngineFault.

Text that cannot be read is a fault, since an answer without it would be wrong; numbers beside it are left out.
"""

from __future__ import annotations

import json
import math
from typing import Any, TypeVar

from orchestrator.adapter.pieces import Piece
from orchestrator.adapter.refusals import EngineFault
from orchestrator.adapter.wire import JSON, compact

T = TypeVar("T")
UNREADABLE = "unreadable answer of the engine"
# Python reads NaN and Infinity, which are no JSON: a client's parser would refuse the whole answer.
_decode = json.JSONDecoder(parse_constant=lambda _: None).decode


def loads(raw: bytes) -> Any:
    """Return the JSON value; raises ValueError, whatever is wrong with it."""
    try:
        return _decode(raw.decode())
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def field(data: JSON, name: str, kind: type[T]) -> T:
    """Return a field that an answer must have; raises EngineFault when it is missing or of another type."""
    value = data.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise EngineFault(502, f"{UNREADABLE}: no `{name}`")
    return value


def numbers(data: JSON, name: str) -> list[int]:
    """Return a field that must be a list of whole numbers, such as tokens."""
    found: list[Any] = field(data, name, list)
    if not all(isinstance(one, int) for one in found):
        raise EngineFault(502, f"{UNREADABLE}: no numbers in `{name}`")
    return found


def counts(usage: Any) -> JSON | None:
    """Return the counts of tokens that can be used as such."""
    if not isinstance(usage, dict):
        return None
    return {key: value for key, value in usage.items() if type(value) is int and value >= 0} or None


def parse(event: bytes) -> Piece:
    """Return the piece of one event; raises EngineFault for an error frame or one that cannot be read."""
    try:
        data = loads(event)
    except ValueError as error:
        raise EngineFault(500, f"unreadable event of the engine: {error}") from error
    if not isinstance(data, dict):
        raise EngineFault(500, "unreadable event of the engine")
    if data.get("error") is not None:
        raise fault_of(500, data)
    return _piece(data)


def fault_of(status: int, data: Any) -> EngineFault:
    """Return the error that a body of vLLM carries: `error` is an object or a text, or there is a `detail`."""
    error = data.get("error", data.get("detail")) if isinstance(data, dict) else data
    if isinstance(error, dict):
        code, message = error.get("code"), error.get("message")
        if isinstance(code, int) and 400 <= code <= 599:
            status = code
        return EngineFault(status, str(message or f"the engine answered {status}"))
    return EngineFault(status, str(error or f"the engine answered {status}"))


def _piece(data: JSON) -> Piece:
    piece = Piece(usage=counts(data.get("usage")), prompt_ids=_ids(data.get("prompt_token_ids")))
    choices = data.get("choices")
    if not choices:
        return piece
    choice = _object(_list(choices)[0])
    delta = choice.get("delta")
    if delta is None:
        piece.content = _text(choice.get("text"))
        piece.prompt_ids = piece.prompt_ids or _ids(choice.get("prompt_token_ids"))
    else:
        said = _object(delta)
        piece.content = _text(said.get("content"))
        piece.thinking = _text(said.get("reasoning") or said.get("reasoning_content"))
        piece.calls = [_call(part) for part in _list(said.get("tool_calls") or [])]
    piece.logprobs = _logprobs(choice.get("logprobs"))
    finish = choice.get("finish_reason")
    piece.finish = finish if isinstance(finish, str) else None
    piece.token_ids = _ids(choice.get("token_ids"))
    return piece


def _text(value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise _unreadable()
    return value or ""


def _object(value: Any) -> JSON:
    if not isinstance(value, dict):
        raise _unreadable()
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _unreadable()
    return value


def _unreadable() -> EngineFault:
    return EngineFault(500, "unreadable event of the engine: a field has another type than its API says")


def _ids(value: Any) -> list[int]:
    known = isinstance(value, list) and all(type(one) is int for one in value)
    return value if known else []


def _call(part: Any) -> JSON:
    """Return a part of a tool call; arguments that come as an object become the text that they stand for."""
    call, index = _object(part), part.get("index")
    function = _object(call.get("function") or {})
    arguments = function.get("arguments")
    return {
        "index": index if type(index) is int else 0,
        "id": _text(call.get("id")),
        "function": {
            "name": _text(function.get("name")),
            "arguments": compact(arguments) if isinstance(arguments, dict) else _text(arguments),
        },
    }


def _logprobs(found: Any) -> list[JSON]:
    if not isinstance(found, dict):
        return []
    entries = found.get("content")
    if not isinstance(entries, list):
        return _old_logprobs(found)
    return [_entry(one, _tops(one.get("top_logprobs"))) for one in entries if _known(one)]


def _known(one: Any) -> bool:
    return isinstance(one, dict) and isinstance(one.get("token"), str)


def _tops(found: Any) -> list[JSON]:
    return [_entry(top) for top in found if _known(top)] if isinstance(found, list) else []


def _entry(one: JSON, tops: list[JSON] | None = None) -> JSON:
    """Return token, logprob and bytes as they came, but for numbers that are none."""
    level, raw = one.get("logprob"), one.get("bytes")
    if not isinstance(level, int | float) or not math.isfinite(level):
        level = None
    known = {"token": one["token"], "logprob": level, "bytes": None if raw is None else _ids(raw)}
    kept = {key: value for key, value in known.items() if key in one}
    return kept if tops is None or "top_logprobs" not in one else kept | {"top_logprobs": tops}


def _old_logprobs(found: JSON) -> list[JSON]:
    """Return the logprobs of /v1/completions (parallel lists) in the form of chat completions."""
    tokens, values, tops = found.get("tokens"), found.get("token_logprobs"), found.get("top_logprobs")
    if not isinstance(tokens, list) or not isinstance(values, list):
        return []
    tops = tops if isinstance(tops, list) else [None] * len(tokens)
    return [
        _token(token, value)
        | {"top_logprobs": [_token(*one) for one in top.items()] if isinstance(top, dict) else []}
        for token, value, top in zip(tokens, values, tops, strict=False) if isinstance(token, str)
    ]  # fmt: skip


def _token(token: str, value: Any) -> JSON:
    return _entry({"token": token, "logprob": value, "bytes": list(token.encode(errors="replace"))})
