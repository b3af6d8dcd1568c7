"""Variables put into the texts of a suite, and the conversation that comes of it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.checks.answers.case import Case, sendable

_VARIABLE = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_NAME = re.compile(r"[\w-]+(?:\.[\w-]+)*")
_ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(slots=True)
class Reading:
    """A file being read: cases, what is wrong with it, and what of it is not asked."""

    name: str
    folder: Path
    cases: list[Case] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)

    def wrong(self, place: str, what: str) -> None:
        self.mistakes.append(f"{self.name}: {place}: {what}")


def messages_of(raw: Any, variables: dict[str, Any], place: str, read: Reading) -> list[dict[str, Any]]:
    """Return the turns that a prompt stands for; mistakes go to `read`."""
    if isinstance(raw, str):
        # Read before variables are put in: a quotation mark in one of them must not end a text.
        chat = _chat(raw)
        raw = chat if chat is not None else [{"role": "user", "content": raw}]
    if not isinstance(raw, list) or not raw:
        read.wrong(place, "messages should be a list of {role, content}")
        return []
    found = []
    for one in raw:
        if not isinstance(one, dict) or one.get("role") not in _ROLES or not isinstance(one.get("content"), str | list):
            read.wrong(place, f"messages should be {{role: {'|'.join(_ROLES)}, content: ...}}")
            return []
        found.append({str(key): filled(value, variables, place, read) for key, value in one.items()})
    if not sendable(found):
        read.wrong(place, "a text that is no Unicode")
        return []
    return found


def _chat(text: str) -> list[Any] | None:
    """A prompt that is a JSON list of messages is one conversation."""
    if not text.lstrip().startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) and found and all(isinstance(one, dict) for one in found) else None


def filled(value: Any, variables: dict[str, Any], place: str, read: Reading) -> Any:
    """Return a value with the variables put into all its texts."""
    if isinstance(value, str):
        return _text(value, variables, place, read) if variables or "{{" in value else value
    if isinstance(value, list):
        return [filled(one, variables, place, read) for one in value]
    if isinstance(value, dict):
        return {key: filled(one, variables, place, read) for key, one in value.items()}
    return value


def _text(text: str, variables: dict[str, Any], place: str, read: Reading) -> str:
    """Put variables in; expressions and filters of the template language are not taken."""
    if "{%" in text:
        read.wrong(place, "{% ... %} of the template language is not taken")
        return text

    def put(found: re.Match[str]) -> str:
        name = found[1]
        if not _NAME.fullmatch(name):
            read.wrong(place, f"{{{{{name}}}}}: only names of variables are taken")
            return ""
        value: Any = variables
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is None:
            read.wrong(place, f"{{{{{name}}}}}: no such variable")
            return ""
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    return _VARIABLE.sub(put, text)
