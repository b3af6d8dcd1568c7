"""What the answers are judged by, and what a group of them came to."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrator.checks import Judgement
from orchestrator.checks.answers.case import Case
from orchestrator.checks.answers.record import Reply

_DEFAULTS_SHARE = 50    # one test that draws at random may err less often than the others together


@dataclass(frozen=True, slots=True)
class Terms:
    """`alpha`: chance of a false red. `loss`: share of the prompts of a group that may be lost, net.

    `alike`: least share of answers that begin alike. `vary`: how far the variety of answers without sampling
    parameters may lie apart, 0..1. `skipped`: groups left out, with the reason given.
    """

    alpha: float = 0.05
    loss: float = 0.05
    alike: float = 0.2
    vary: float = 0.1
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def defaults_alpha(self) -> float:
        return self.alpha / _DEFAULTS_SHARE

    @classmethod
    def of(cls, data: dict[str, Any]) -> Terms:
        """Return the terms of a raw line."""
        return cls(**{key: data[key] for key in cls.__dataclass_fields__ if key in data})


@dataclass(frozen=True, slots=True)
class Group:
    """One judgement. `blocks`: an inconclusive one that speaks against going on; `facts`: its numbers, plain JSON."""

    name: str
    result: Judgement
    summary: str
    blocks: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class Asked:
    """A case with everything that was answered. `cut`: answers to the request with a stop word, which is `stop`."""

    case: Case
    old: list[Reply] = field(default_factory=list)
    new: list[Reply] = field(default_factory=list)
    cut: dict[str, list[Reply]] = field(default_factory=lambda: {"ollama": [], "vllm": []})
    stop: dict[str, str] = field(default_factory=dict)

    def add(self, line: dict[str, Any]) -> None:
        """Take a raw line of kind `answer`."""
        reply, side = Reply.of(line), line["side"]
        if line.get("stop") is None:
            (self.old if side == "ollama" else self.new).append(reply)
        else:
            self.stop[side] = line["stop"]
            self.cut[side].append(reply)

    @property
    def both(self) -> bool:
        return bool(self.old and self.new)
