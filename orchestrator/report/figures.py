"""Figures as they are shown: rounded once, here, so that the page shows exactly what the data file holds."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from typing import Any


def shown(value: Any) -> float | int | None:
    """Return a figure with about three digits, never fewer than its whole ones; None where there is none."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    if isinstance(value, int):
        return value
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    rounded = round(value, digits)
    return int(rounded) if rounded == int(rounded) else rounded


def percent(share: Any) -> float | int | None:
    return shown(share * 100) if isinstance(share, int | float) else None


def gib(size: int) -> float | int | None:
    return shown(size / 2**30)


def moment(at: Any) -> str:
    """Return a time in UTC to the second, such as 2026-11-25 13:40:58."""
    try:
        return dt.datetime.fromtimestamp(float(at), dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (TypeError, ValueError, OverflowError, OSError):
        return ""


def quantile(entry: Any) -> dict[str, Any]:
    """Return {value, low, high, note} of one quantile as `stats` gives it; `note` says why there is no value."""
    one = entry if isinstance(entry, dict) else {}
    value = shown(one.get("value"))
    return {"value": value, "low": shown(one.get("low")), "high": shown(one.get("high")),
            "note": "" if value is not None else str(one.get("note") or "not measured")}  # fmt: skip


def ticks(highest: float, count: int = 4) -> list[float | int]:
    """Return round marks from 0 to at least `highest`."""
    if highest <= 0 or not math.isfinite(highest):
        return [0, 1]
    step = highest / count
    power = 10 ** math.floor(math.log10(step))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= step * 0.999)
    marks = [step * n for n in range(math.ceil(highest / step * 0.999) + 1)]
    return [int(mark) if mark == int(mark) else round(mark, 6) for mark in marks]


def log_ticks(lowest: float, highest: float) -> list[float | int]:
    """Return marks 1, 2, 5 times powers of ten that enclose the range; at most about eight."""
    first, last = math.floor(math.log10(lowest)), math.ceil(math.log10(highest))
    factors: Sequence[int] = (1, 2, 5) if last - first <= 2 else (1, 3) if last - first <= 3 else (1,)
    marks = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    low = max((mark for mark in marks if mark <= lowest), default=marks[0])
    high = min((mark for mark in marks if mark >= highest), default=marks[-1])
    return [int(mark) if mark == int(mark) else mark for mark in marks if low <= mark <= high]


def resolve(data: Any, pointer: str) -> Any:
    """Return what a JSON pointer (RFC 6901) names; raises LookupError."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        data = data[int(key)] if isinstance(data, list) else data[key]
    return data


def step(pointer: str, *keys: str | int) -> str:
    """Return the pointer below another."""
    return pointer + "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)
