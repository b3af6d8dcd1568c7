"""What a difference between two renderings is called, how grave it is, and how it is shown. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from orchestrator.checks.rendering_text import first_difference, marked

Level = Literal["fail", "warn", "note"]
LEVELS: dict[str, Level] = {
    "BOS twice": "fail",
    "BOS missing": "fail",
    "system prompt missing": "fail",
    "system prompt differs": "warn",
    "system prompt added": "warn",
    "message missing": "fail",
    "context truncated": "fail",
    "other template": "fail",
    "conversation refused": "fail",
    "generation prompt differs": "fail",
    "thinking switched differently": "warn",
    "tools missing": "fail",
    "other token count": "warn",
    "tools rendered differently": "warn",
    "other tokenizer": "fail",
    # Tolerated, each with its reason.
    "date": "note",
    "whitespace": "note",
    "old BOS twice": "note",
    "old context shorter": "note",
    "tools spelled differently": "note",
}
REASONS = {
    "date": "the template writes a date of its own; it changes without anybody's doing",
    "whitespace": "only spaces and ends of lines differ, as between Go and Jinja templates",
    "old BOS twice": "Ollama's side marks the beginning twice, the new one once, as the model was trained",
    "old context shorter": "the new side reads more of the conversation than Ollama did",
    "tools spelled differently": "the same tools, with other spaces, quotes or order of keys",
}


@dataclass(frozen=True, slots=True)
class Rendering:
    """One side's prompt. `tokens`: how many, None if nobody told; `context`: tokens that fit, None if unknown.

    `strings`: the first tokens as vLLM writes them, where it does.
    """

    text: str
    tokens: int | None = None
    strings: tuple[str, ...] = ()
    context: int | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """What was to be rendered. `said`: slot -> words, in order; slots are `system`, `user1`, `assistant1`, …"""

    id: str
    said: dict[str, str] = field(default_factory=dict)
    tools: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """`what` is a key of LEVELS; `old` and `new` show the place, marked, on both sides; `weight` replaces the level."""

    what: str
    conversation: str
    detail: str
    old: str = ""
    new: str = ""
    weight: Level | None = None

    @property
    def level(self) -> Level:
        return self.weight or LEVELS[self.what]

    def to_json(self) -> dict[str, Any]:
        return {"level": self.level, **{key: value for key, value in asdict(self).items() if key != "weight"}}


def finding(what: str, said: Conversation, detail: str, old: str, new: str) -> Finding:
    at = max(first_difference(old, new), 0)
    return Finding(what, said.id, detail, marked(old, at), marked(new, at))


def same(items: Sequence[str]) -> list[str]:
    """Return items with all white space alike, for comparing."""
    return [" ".join(item.split()) for item in items]


def told(old: Sequence[str], new: Sequence[str]) -> str:
    """Return what one side has and the other has not, in words."""
    theirs, ours = [], []
    left, right = same(old), same(new)
    for what, a, b, c, d in difflib.SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if what != "equal":
            theirs += left[a:b]
            ours += right[c:d]
    return f"Ollama has {short(' '.join(theirs)) or 'nothing'}, vLLM {short(' '.join(ours)) or 'nothing'} there"


def short(text: str, most: int = 120) -> str:
    return (text if len(text) <= most else text[: most - 1] + "…") and f"'{text[:most]}'"
