"""Texts that a grammar allows: an instance of a JSON schema, or a match of a regular expression."""

from __future__ import annotations

import json
import random
import re
from re import _constants as sre  # type: ignore[attr-defined]  # the standard library's own parser
from re import _parser  # type: ignore[attr-defined]
from typing import Any

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")


class UnknownType(ValueError):
    """The schema names a type that JSON does not have."""


def check(schema: Any) -> None:
    """Raise UnknownType (with the name) for a schema whose types JSON does not know."""
    if not isinstance(schema, dict):
        return
    kinds = schema.get("type", "object")
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if kind not in TYPES:
            raise UnknownType(kind)
    for child in [*schema.get("properties", {}).values(), schema.get("items")]:
        check(child)


def instance(schema: dict[str, Any], rng: random.Random) -> Any:
    """Return a value that satisfies the common keywords of a JSON schema."""
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return rng.choice(schema["enum"])
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return instance(schema[key][0], rng)
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {k: instance(v, rng) for k, v in schema.get("properties", {}).items()}
    if kind == "array":
        return [instance(schema.get("items") or {"type": "integer"}, rng) for _ in range(schema.get("minItems", 1))]
    if kind in {"number", "integer"}:
        low = schema.get("minimum", 0)
        return rng.randint(int(low), int(schema.get("maximum", low + 9)))
    if kind == "string":
        word = "".join(rng.choice("aeioulnrst") for _ in range(max(schema.get("minLength", 0), 5)))
        return word[: schema.get("maxLength", len(word))]
    return rng.random() < 0.5 if kind == "boolean" else None


def sample(schema: Any, rng: random.Random) -> str:
    """Return the JSON text of an instance; no schema means any object."""
    return json.dumps(instance(schema if isinstance(schema, dict) else {"type": "object"}, rng))


def match(pattern: str, rng: random.Random) -> str:
    """Return a text that a simple regular expression matches in full."""
    return _match(_parser.parse(pattern), rng)


def _match(items: Any, rng: random.Random) -> str:
    return "".join(_one(op, value, rng) for op, value in items)


def _one(op: Any, value: Any, rng: random.Random) -> str:
    if op is sre.LITERAL:
        return chr(value)
    if op is sre.IN:
        return _of_set(value, rng)
    if op in {sre.MAX_REPEAT, sre.MIN_REPEAT}:
        low, high, inner = value
        return "".join(_match(inner, rng) for _ in range(rng.randint(low, min(high, low + 4))))
    if op is sre.SUBPATTERN:
        return _match(value[-1], rng)
    if op is sre.BRANCH:
        return _match(rng.choice(value[1]), rng)
    return "" if op is sre.AT else rng.choice("abcdefgh")


def _of_set(members: Any, rng: random.Random) -> str:
    kind, value = rng.choice([m for m in members if m[0] is not sre.NEGATE])
    if kind is sre.RANGE:
        return chr(rng.randint(value[0], value[1]))
    if kind is sre.CATEGORY:
        return {sre.CATEGORY_DIGIT: "7", sre.CATEGORY_SPACE: " "}.get(value, "a")
    return chr(value)


def pieces(text: str) -> list[str]:
    """Split a constrained text into the tokens it is sent in."""
    return re.findall(r".{1,4}", text, re.DOTALL)
