"""What happened, for the eyes and for the record: one stream that the journal and the console listen to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    PHASE = "phase"         # a new phase of the command begins
    START = "start"         # a step begins
    WAIT = "wait"           # why we wait, repeated while we do; never journaled
    DONE = "done"           # a step ended well
    SKIP = "skip"           # a step had nothing to do
    NOTE = "note"           # worth knowing
    WARN = "warn"
    FAIL = "fail"
    VERDICT = "verdict"     # a check judged


@dataclass(frozen=True, slots=True)
class Happening:
    """One event; `data` is JSON-serialisable and holds no secrets."""

    kind: Kind
    subject: str
    text: str
    data: dict[str, Any] = field(default_factory=dict)


Emit = Callable[[Happening], None]
