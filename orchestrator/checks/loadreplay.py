"""Captured traffic, to be played again: a JSONL file, one request a line.

    {"at": 0.0, "body": {"messages": [{"role": "user", "content": "..."}], "max_tokens": 100}}

`at`: seconds, since any moment, or an ISO 8601 time; lines may come in any order. `body`: what was sent to
/v1/chat/completions or to Ollama's /api/chat or /api/generate; as an object, or as the text of one. The model is
replaced by the tested one and the answer always streamed; Ollama's options become their OpenAI names. Further keys
are passed over.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.checks.loadplan import Captured
from orchestrator.errors import UsageError

_FORMAT = 'one request a line: {"at": seconds or an ISO time, "body": {"messages": [...]}}'
_SHOWN = 10
# What /v1/chat/completions takes of a chat body, on both sides.
_TAKEN = (
    "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop", "frequency_penalty",
    "presence_penalty", "tools", "tool_choice", "response_format", "reasoning_effort",
)
_OPTIONS = {"num_predict": "max_tokens"} | {
    name: name for name in ("temperature", "top_p", "seed", "stop", "frequency_penalty", "presence_penalty")
}


@dataclass(frozen=True, slots=True)
class Request:
    """One captured request: seconds since the first one, and its body for /v1/chat/completions without a model."""

    at: float
    body: dict[str, Any]


def read(path: Path, digest: str | None = None) -> tuple[list[Request], Captured]:
    """The requests of a file in the order of their times; UsageError with every bad line, or for another content."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}", hint=_FORMAT) from None
    found = hashlib.sha256(data).hexdigest()
    if digest is not None and digest != found:
        raise UsageError(f"{path} has changed since the test was planned", hint="begin the test again")
    requests, wrong = _parse(data)
    if wrong:
        more = [f"and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
        raise UsageError(f"{path} cannot be replayed: {len(wrong)} bad line{'s' * (len(wrong) != 1)}",
                         evidence="\n".join(wrong[:_SHOWN] + more), hint=_FORMAT)  # fmt: skip
    if not requests:
        raise UsageError(f"{path} holds no request", hint=_FORMAT)
    requests.sort(key=lambda one: one.at)
    first = requests[0].at
    return [Request(one.at - first, one.body) for one in requests], Captured(str(path), found, len(requests))


def _parse(data: bytes) -> tuple[list[Request], list[str]]:
    requests, wrong = [], []
    for number, line in enumerate(data.decode("utf-8-sig", "replace").split("\n"), 1):
        if not line.strip():
            continue
        try:
            requests.append(_request(json.loads(line)))
        except RecursionError:
            wrong.append(f"line {number}: nested too deeply")
        except ValueError as error:
            said = f"not JSON: {error.msg}" if isinstance(error, json.JSONDecodeError) else str(error)
            wrong.append(f"line {number}: {said}")
    return requests, wrong


def _request(entry: Any) -> Request:
    if not isinstance(entry, dict):
        raise ValueError("should be an object with `at` and `body`")  # noqa: TRY004 - one kind of error for the caller
    body = entry.get("body")
    if isinstance(body, str):
        body = json.loads(body)
    if not isinstance(body, dict):
        raise ValueError("`body` should be the object that was sent")  # noqa: TRY004
    return Request(_seconds(entry.get("at")), _chat(body))


def _seconds(at: Any) -> float:
    if isinstance(at, int | float) and not isinstance(at, bool) and math.isfinite(at):
        return float(at)
    if isinstance(at, str):
        try:
            moment = dt.datetime.fromisoformat(at)
        except ValueError:
            raise ValueError(f"`at` is no time: {at[:40]!r}") from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()
    raise ValueError("`at` should be seconds or an ISO time")


def _chat(body: Mapping[str, Any]) -> dict[str, Any]:
    taken = {name: body[name] for name in _TAKEN if body.get(name) is not None}
    options = body.get("options")
    if isinstance(options, dict):
        taken = {ours: options[name] for name, ours in _OPTIONS.items() if options.get(name) is not None} | taken
    if taken.get("max_tokens") in (-1, -2):     # Ollama's words for "no limit"
        del taken["max_tokens"]
    if "messages" not in taken and isinstance(body.get("prompt"), str):
        system = [{"role": "system", "content": body["system"]}] if isinstance(body.get("system"), str) else []
        taken["messages"] = [*system, {"role": "user", "content": body["prompt"]}]
    messages = taken.get("messages")
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages) or not messages:
        raise ValueError("`body` has no messages, and no prompt that is text")
    return taken


def wire_body(request: Request, model: str) -> bytes:
    """What is sent: the captured body, for this model, as a stream that tells its usage."""
    return json.dumps(
        {**request.body, "model": model, "stream": True, "stream_options": {"include_usage": True}}
    ).encode()
