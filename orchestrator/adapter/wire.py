"""Bytes as Ollama writes them: JSON, timestamps, durations."""

from __future__ import annotations

import json
import re
import time
from functools import lru_cache
from typing import Any

JSON = dict[str, Any]

# Go's encoder escapes these in strings; clients that compare bytes see the difference.
_GO_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})
_ESCAPED = re.compile("[<>&\u2028\u2029]")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


def dumps(value: Any) -> str:
    """Return compact JSON with the escapes of Go's encoding/json."""
    return escaped(_encode(value))


def escaped(text: str) -> str:
    """Return JSON with the escapes of Go's encoding/json."""
    return text.translate(_GO_ESCAPES) if _ESCAPED.search(text) else text


def compact(value: Any) -> str:
    """Return compact JSON as it is, for what no client reads."""
    return _encode(value)


def encode(text: str) -> bytes:
    """Return UTF-8; a lone surrogate becomes `?`, because it has no encoding."""
    return text.encode("utf-8", "replace")


def timestamp(nanoseconds: int) -> str:
    """Return RFC 3339 in UTC with up to nine decimals, trailing zeros cut, as Go prints a time."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{_second(seconds)}.{rest:09d}".rstrip("0").rstrip(".") + "Z"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def float32(value: float) -> float:
    """Return the number with the nine digits that a 32-bit float needs, so that JSON stays short."""
    return float(f"{value:.9g}")
