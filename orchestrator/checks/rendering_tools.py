"""How tools stand in a rendered prompt: named at all, the same JSON, or in other words. Pure."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.checks.rendering_findings import Conversation, Finding, finding, same, told
from orchestrator.checks.rendering_text import skeleton, without_dates

AROUND = "the same tools, in other words: "     # what another template explains as well


def tools_of(said: Conversation, old: str, new: str) -> list[Finding]:
    names = [str(tool["function"]["name"]) for tool in said.tools]
    lost = [name for name in names if name in old and name not in new]
    if lost:
        return [finding("tools missing", said, f"the new prompt does not name {', '.join(lost)}", old, new)]
    if not any(name in old or name in new for name in names):
        return []
    if "".join(old.split()) == "".join(new.split()):
        return []
    theirs, ours = _around(said, old), _around(said, new)
    alike = objects(old) == objects(new)
    if alike and same(theirs) == same(ours):
        return [finding("tools spelled differently", said, "the same tools in other spelling", old, new)]
    detail = (AROUND if alike else "") + told(theirs, ours)
    return [finding("tools rendered differently", said, detail, old, new)]


def _around(said: Conversation, text: str) -> list[str]:
    """Return the skeleton without the tools' own JSON, and without dates."""
    kept, at = [], 0
    for begin, end, _ in _json(text):
        kept.append(text[at:begin])
        at = end
    items = skeleton(" ".join((*kept, text[at:])), said.said)
    return [item for item in (without_dates(one).strip() for one in items) if item]


def objects(text: str) -> list[str]:
    """Return the JSON objects that stand in a text, each in one spelling."""
    return sorted(json.dumps(value, sort_keys=True) for _, _, value in _json(text))


def _json(text: str) -> list[tuple[int, int, Any]]:
    reader = json.JSONDecoder()
    found: list[tuple[int, int, Any]] = []
    at = text.find("{")
    while at >= 0:
        try:
            value, end = reader.raw_decode(text, at)
        except (ValueError, RecursionError):
            at = text.find("{", at + 1)
            continue
        found.append((at, end, value))
        at = text.find("{", end)
    return found
