"""Numbers as they are found in the world: fit to be compared, or none."""

from __future__ import annotations

import math
import re


def number(value: float | None) -> float | None:
    """Return a value that can be compared; None for what is none."""
    return value if value is not None and math.isfinite(value) else None


def whole(text: str | None) -> int | None:
    """Return a positive number as Ollama reads it; None where it falls back to its default."""
    cleaned = (text or "").strip().strip("\"'")
    return int(cleaned) if re.fullmatch(r"[0-9]{1,12}", cleaned) and int(cleaned) > 0 else None
