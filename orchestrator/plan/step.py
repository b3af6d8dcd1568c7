"""A plan and its steps."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Step:
    """One change to the world, or one judgement; `cause` is why, `touches_live` asks for a yes."""

    kind: str
    target: str
    cause: str
    touches_live: bool = False
    note: str = ""
    data: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind} {self.target}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order. `str(plan)` is what `migrate plan` prints and what the tests assert."""

    command: str
    stack: str
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        if not self.steps:
            return f"{self.command} {self.stack}: nothing to do"
        kind = max(len(step.kind) for step in self.steps)
        target = max(len(step.target) for step in self.steps)
        lines = [
            f"#{number:<2} {step.kind:<{kind}}  {step.target:<{target}}  {step.cause}{_marks(step)}"
            for number, step in enumerate(self.steps, 1)
        ]
        return "\n".join(line.rstrip() for line in lines)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable form."""
        return {"command": self.command, "stack": self.stack, "steps": [asdict(step) for step in self.steps]}


def _marks(step: Step) -> str:
    note = f"; {step.note}" if step.note else ""
    return f"{note}  [touches live traffic]" if step.touches_live else note
