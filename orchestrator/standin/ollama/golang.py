"""How a Go server writes: JSON with escaped HTML signs, times with nanoseconds, durations, quoted strings."""

from __future__ import annotations

import json
import re
import time
from typing import Any

SECOND = 1_000_000_000
FOREVER = 9_223_372_036_854_775_807
_UNITS = {"ns": 1, "us": 1000, "µs": 1000, "ms": 10**6, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def dumps(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.translate(_ESCAPES).encode("utf-8", "replace")


def quoted(text: str) -> str:
    """Return a string as Go's %q prints it."""
    return json.dumps(text, ensure_ascii=False)


def stamp(epoch_ns: int | None = None) -> str:
    """Return RFC 3339 in UTC with the nanoseconds that are needed."""
    epoch_ns = time.time_ns() if epoch_ns is None else epoch_ns
    seconds, rest = divmod(epoch_ns, SECOND)
    fraction = f".{rest:09d}".rstrip("0").rstrip(".")
    year_cap = min(seconds, 253_402_300_799)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(year_cap)) + fraction + "Z"


def parse_duration(text: str) -> int:
    """Return nanoseconds for `5m`, `1h30m`, `-1s`; raises ValueError with Go's own text."""
    body = text.lstrip("+-")
    sign = -1 if text.startswith("-") else 1
    if body == "0":
        return 0
    parts = _DURATION.findall(body)
    if not parts or "".join(n + u for n, u in parts) != body:
        if re.fullmatch(r"[\d.]+", body):
            raise ValueError(f"time: missing unit in duration {quoted(text)}")
        raise ValueError(f"time: invalid duration {quoted(text)}")
    return sign * int(sum(float(number) * _UNITS[unit] for number, unit in parts))


def duration(ns: int) -> str:
    """Return a duration as Go's String method prints it: `453.235µs`, `1.5s`, `5m0s`."""
    if ns < 1000:
        return f"{ns}ns" if ns else "0s"
    if ns < 10**6:
        return _trim(ns / 1000, 3) + "µs"
    if ns < SECOND:
        return _trim(ns / 10**6, 6) + "ms"
    minutes, rest = divmod(ns, 60 * SECOND)
    hours, minutes = divmod(minutes, 60)
    seconds = _trim(rest / SECOND, 9) + "s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _trim(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".rstrip("0").rstrip(".")


_LITERALS = {"n": "null", "t": "true", "f": "false"}


def json_error(body: bytes) -> str | None:
    """Return what Go's decoder says of a body that is not JSON, or None when its first value is."""
    text = body.decode("utf-8", "replace").lstrip(" \t\r\n")
    if not text:
        return "EOF"
    try:
        json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as error:
        return _explain(text, error)
    return None


def _explain(text: str, error: json.JSONDecodeError) -> str:
    position = min(error.pos, len(text))
    rest = text[position:].lstrip(" \t\r\n")
    if not rest or (error.msg.startswith("Unterminated string")):
        return "unexpected EOF"
    word = _LITERALS.get(rest[0])
    if word and not rest.startswith(word):
        for have, want in zip(rest, word, strict=False):
            if have != want:
                return f"invalid character '{have}' in literal {word} (expecting '{want}')"
        return "unexpected EOF"
    place = {
        "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
        "Expecting ':' delimiter": "after object key",
        "Expecting ',' delimiter": "after object key:value pair" if text[0] == "{" else "after array element",
    }.get(error.msg, "looking for beginning of value")
    return f"invalid character '{rest[0]}' {place}"


_KINDS = {"dict": "object", "list": "array", "str": "string", "int": "number", "float": "number", "bool": "bool"}


def kind(value: Any) -> str:
    """Return what Go's decoder calls a JSON value."""
    return _KINDS.get(type(value).__name__, "null")
