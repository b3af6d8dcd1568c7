"""One question of a suite, and how it is asked of a side."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Ask = Literal["equal", "free", "cut"]
# What both sides are told wherever the suite says nothing else. Ollama's /v1 knows no repeat_penalty, top_k or min_p:
# those stay the model's own, on vLLM by --override-generation-config.
EQUAL: dict[str, Any] = {
    "temperature": 0, "top_p": 1, "seed": 1, "frequency_penalty": 0, "presence_penalty": 0,
}  # fmt: skip
BUILTIN = "builtin"
_OURS = frozenset({"model", "messages", "stream", "stream_options", "n"})


@dataclass(frozen=True, slots=True)
class Case:
    """A question. `ask`: with equal sampling; free of any sampling parameter; or cut at a word of its own answer.

    `origin`: the suite it comes from. Ids are unique within a run.
    """

    id: str
    group: str
    messages: tuple[dict[str, Any], ...]
    params: dict[str, Any] = field(default_factory=dict)
    asserts: tuple[dict[str, Any], ...] = ()
    ask: Ask = "equal"
    origin: str = BUILTIN

    def body(self, model: str, max_tokens: int) -> dict[str, Any]:
        """Return the request, whole and not streamed."""
        sampling = {} if self.ask == "free" else EQUAL
        asked = {"model": model, "messages": list(self.messages), "max_tokens": max_tokens}
        body = {**asked, **sampling, **self.params, "stream": False}
        if self.origin == BUILTIN and self.ask == "equal":  # what a group needs; a model that thinks needs more
            body["max_tokens"] = max(max_tokens, self.params.get("max_tokens", 0))
        return body

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, data: dict[str, Any]) -> Case:
        """Return the case of a raw line."""
        known = {key: data[key] for key in cls.__dataclass_fields__ if key in data}
        return cls(**{**known, "messages": tuple(known["messages"]), "asserts": tuple(known.get("asserts", ()))})


def params_problem(params: Any) -> str:
    """Return why request parameters of a suite cannot be used, empty when they can."""
    if not isinstance(params, dict):
        return "should be an object of request parameters"
    taken = sorted(_OURS & params.keys())
    return f"{', '.join(taken)}: set by the check itself" if taken else ""


def sendable(value: Any) -> bool:
    """Whether a value can be sent as JSON: no half of a surrogate pair, nothing that JSON does not know."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, TypeError, ValueError):
        return False
    return True
