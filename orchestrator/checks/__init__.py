"""Judgements: each check looks at something and answers with a verdict that can be recomputed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Judgement = Literal["pass", "fail", "inconclusive"]
SideName = Literal["ollama", "vllm"]


@dataclass(frozen=True)
class Verdict:
    """One judgement about one target.

    `evidence` is plain JSON: the raw samples, or the numbers from which the result can be recomputed.
    """

    check: str
    target: str
    result: Judgement
    summary: str
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return self.result == "pass"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Side:
    """Where one side is reached: a base URL below which /v1 lies, and the headers that its door asks for."""

    name: SideName
    base_url: str
    headers: dict[str, str] = field(default_factory=dict)
