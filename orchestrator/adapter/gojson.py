"""JSON as Go's decoder takes it: the first value counts, and what is wrong is said in its words."""

from __future__ import annotations

import json
from typing import Any, NoReturn

_LITERALS = {"n": "null", "t": "true", "f": "false"}
_AFTER_VALUE = {"{": "after object key:value pair", "[": "after array element"}
_PLACES = {
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Illegal trailing comma before end of object": "looking for beginning of object key string",
    "Expecting ':' delimiter": "after object key",
    "Invalid control character at": "in string literal",
    "Invalid \\escape": "in string escape code",
}
_TOO_DEEP = "exceeded max depth"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def loads(raw: bytes) -> Any:
    """Return the first value of a body; raises ValueError with Go's own text for anything else.

    Bytes that are no UTF-8 become U+FFFD, and what follows the value is not looked at, as in Go.
    """
    text = raw.decode("utf-8", "replace").lstrip(" \t\r\n")
    if not text:
        raise ValueError("EOF")
    try:
        return _DECODER.raw_decode(text)[0]
    except json.JSONDecodeError as error:
        raise ValueError(_explain(text, error)) from error
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    except ValueError as error:  # NaN, Infinity, a number with thousands of digits
        raise ValueError(f"invalid character '{str(error)[:1]}' looking for beginning of value") from error


def _explain(text: str, error: json.JSONDecodeError) -> str:
    if error.msg.startswith("Unterminated string"):
        return "unexpected EOF"
    at = error.pos
    if error.msg.startswith("Invalid \\escape"):
        at += 1
    rest = text[at:].lstrip(" \t\r\n")
    if not rest:
        return "unexpected EOF"
    shown = {"'": r"'\''", '"': "'\"'"}.get(rest[0], f"'{rest[0]}'")
    if error.msg == "Expecting value" and rest[0] in _LITERALS:
        return _misspelt(rest, _LITERALS[rest[0]])
    if error.msg.startswith("Expecting ',' delimiter"):
        return f"invalid character {shown} {_AFTER_VALUE[_inside(text, at)]}"
    place = next((place for start, place in _PLACES.items() if error.msg.startswith(start)), "")
    return f"invalid character {shown} {place or 'looking for beginning of value'}"


def _misspelt(rest: str, word: str) -> str:
    for have, want in zip(rest, word, strict=False):
        if have != want:
            return f"invalid character '{have}' in literal {word} (expecting '{want}')"
    return "unexpected EOF"


def _inside(text: str, at: int) -> str:
    """Return the bracket that is open at a position, strings left out."""
    stack: list[str] = []
    quoted = escaped = False
    for sign in text[:at]:
        if quoted:
            escaped, quoted = (sign == "\\" and not escaped), quoted and (escaped or sign != '"')
        elif sign == '"':
            quoted = True
        elif sign in "{[":
            stack.append(sign)
        elif sign in "}]" and stack:
            stack.pop()
    return stack[-1] if stack else "{"
