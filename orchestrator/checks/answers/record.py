"""One answer as plain data, and what can be said of it without knowing the question."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Any

_LOOP_TIMES = 4         # a piece that follows itself so often, up to the end
_LOOP_SHARE = 0.3       # and makes up so much of the answer
_LOOP_LEAST = 40        # characters
_PIECE_MOST = 200
_BEGINNING = 12


@dataclass(frozen=True, slots=True)
class Reply:
    """One side's answer to one prompt; `ran`: the output of its code per assertion, where code was run."""

    status: int
    ending: str = "complete"
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    error: str | None = None
    ran: dict[str, dict[str, Any]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, data: dict[str, Any]) -> Reply:
        """Return the answer of a raw line; keys that it does not know are left out."""
        known = {key: data[key] for key in cls.__dataclass_fields__ if key in data}
        return cls(**{**known, "tool_calls": tuple(known.get("tool_calls") or ())})

    @property
    def refused(self) -> bool:
        """Whether the side said no to the request itself."""
        return 400 <= self.status < 500

    @property
    def flaw(self) -> str:
        """Name what is wrong with the answer whatever was asked; empty when nothing is."""
        if self.status != 200:
            return f"status {self.status}"
        if self.ending != "complete":
            return self.ending
        if not self.text.strip() and not self.tool_calls:
            return "only reasoning" if self.reasoning.strip() else "empty"
        return "loops" if loops(self.text) else ""

    @property
    def cut(self) -> bool:
        """Whether the limit of tokens ended it."""
        return self.finish_reason == "length"

    @property
    def beginning(self) -> str:
        """The first characters, small and without blanks: what two runs of one model have in common, if anything."""
        whole = self.text or "".join(str(call.get("name")) for call in self.tool_calls) or self.reasoning
        return re.sub(r"\W+", "", whole).casefold()[:_BEGINNING]


def loops(text: str) -> bool:
    """Whether the end of a text is one piece again and again."""
    text = text.strip()
    for size in range(1, min(_PIECE_MOST, len(text) // _LOOP_TIMES) + 1):
        piece, times = text[-size:], 1
        if not piece.strip():
            continue
        while text[-size * (times + 1) : -size * times] == piece:
            times += 1
        long = size * times
        if times >= _LOOP_TIMES and long >= max(_LOOP_LEAST, _LOOP_SHARE * len(text)):
            return True
    return False
