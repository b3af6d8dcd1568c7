"""Captured traffic as a suite: what real callers asked, from the comparisons that the shadow keeps.

Read as files, one JSON object each (docs/traffic.md). Requests are asked again with equal sampling; what cannot be
asked over /v1 is counted and said, never guessed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.checks.answers.case import Case, sendable
from orchestrator.names import canonical

TRAFFIC = "traffic"
_MOST = 100             # the newest
_TOKENS_MOST = 512
_KEPT = ("max_tokens", "stop", "tools", "response_format")
_OPTIONS = {"num_predict": "max_tokens", "stop": "stop"}


def read_traffic(folder: Path, name: str, model: str) -> tuple[list[Case], list[str]]:
    """Return the newest requests that were for `model` as cases, and notes on what was left out."""
    cases: dict[str, Case] = {}
    left: Counter[str] = Counter()
    for path in sorted(folder.rglob("*.json"), key=lambda one: one.name, reverse=True):
        if len(cases) >= _MOST:
            break
        record = _object(path)
        if record is None:
            left["no comparison"] += 1
            continue
        if canonical(str(record.get("route"))) != canonical(model):
            continue
        made, why = _case(record, path.stem, name)
        if made is None:
            left[why] += 1
        else:
            cases.setdefault(json.dumps([made.messages, made.params], sort_keys=True), made)
    notes = [f"{name}: {count} of the captured requests not asked: {why}" for why, count in left.items()]
    return list(cases.values()), notes


def _object(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and "request" in found else None


def _case(record: dict[str, Any], name: str, origin: str) -> tuple[Case | None, str]:
    try:
        request = json.loads(record["request"])
    except (ValueError, TypeError, RecursionError):
        return None, "cut off, or not JSON"
    if not isinstance(request, dict):
        return None, "not a JSON object"
    messages = list(_messages(request))
    if not messages:
        return None, f"{str(record.get('uri')).split('?')[0]} has no form of a chat"
    if not sendable(messages):
        return None, "a text that is no Unicode"
    return Case(f"{TRAFFIC}/{name}", TRAFFIC, tuple(messages), _params(request), origin=origin), ""


def _messages(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the turns of a chat, or those that /api/generate makes of a prompt."""
    turns = request.get("messages")
    if isinstance(turns, list):
        if all(map(_plain, turns)):
            yield from ({"role": one["role"], "content": one["content"]} for one in turns)
    elif isinstance(request.get("prompt"), str) and not (request.get("raw") or request.get("suffix")):
        if isinstance(request.get("system"), str) and request["system"]:
            yield {"role": "system", "content": request["system"]}
        if request["prompt"]:
            yield {"role": "user", "content": request["prompt"]}


def _plain(turn: Any) -> bool:
    """Pictures and calls have other forms in each API; a conversation with them is not asked again."""
    return (
        isinstance(turn, dict)
        and isinstance(turn.get("content"), str)
        and turn.get("role") in ("system", "developer", "user", "assistant")
        and not (turn.get("images") or turn.get("tool_calls"))
    )


def _params(request: dict[str, Any]) -> dict[str, Any]:
    found = {key: request[key] for key in _KEPT if request.get(key) is not None}
    options = request.get("options")
    if isinstance(options, dict):
        found |= {theirs: options[ours] for ours, theirs in _OPTIONS.items() if options.get(ours) is not None}
    most = found.get("max_tokens", _TOKENS_MOST)
    usable = isinstance(most, int) and not isinstance(most, bool) and most > 0
    found["max_tokens"] = min(most, _TOKENS_MOST) if usable else _TOKENS_MOST
    return found
