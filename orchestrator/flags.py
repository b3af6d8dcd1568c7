"""The flags that mean the same everywhere; light, as every command line pays for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Progress(StrEnum):
    AUTO = "auto"
    TTY = "tty"
    PLAIN = "plain"
    JSON = "json"
    QUIET = "quiet"


@dataclass(frozen=True)
class Common:
    """The flags that mean the same everywhere."""

    stack: str | None
    file: str | None
    json: bool
    quiet: bool
    verbose: bool
    no_color: bool
    progress: Progress
