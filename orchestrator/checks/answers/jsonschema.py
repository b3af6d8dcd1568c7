"""JSON schemas of suites. What a judgement would pass over is refused: a keyword that nobody knows, most likely a slip,
and references, which a check must not fetch.
"""

from __future__ import annotations

import re
from typing import Any

from jsonschema import Draft202012Validator

_TYPES = {"object", "array", "string", "boolean", "null", "integer", "number"}
_SAID = {"$schema", "$id", "title", "description", "default", "examples", "format", "strict", "name"}
_READ = {
    "type", "properties", "required", "additionalProperties", "items", "enum", "const", "pattern", "minimum",
    "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems", "anyOf",
    "oneOf", "allOf", "not",
}  # fmt: skip
_NUMBERS = {
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems",
}  # fmt: skip
_DEEPEST = 50


def schema_error(schema: Any, depth: int = 0) -> str:
    """Return why a schema cannot be judged by, empty when it can."""
    if isinstance(schema, bool):
        return ""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return "the schema should be an object"
    unread = sorted(str(key) for key in schema if key not in _READ | _SAID)
    if unread:
        return f"the schema uses {', '.join(unread)}, which is not read here"
    kinds = schema.get("type", [])
    if any(not isinstance(kind, str) or kind not in _TYPES for kind in (kinds if isinstance(kinds, list) else [kinds])):
        return f"the schema has no such type: {kinds}"
    return _keyword_error(schema) or next(
        (said for part in _parts(schema) if (said := schema_error(part, depth + 1))), ""
    )


def _keyword_error(schema: dict[str, Any]) -> str:
    for key, value in schema.items():
        bad = (
            (key in _NUMBERS and (isinstance(value, bool) or not isinstance(value, int | float)))
            or (key in ("enum", "anyOf", "oneOf", "allOf") and not isinstance(value, list))
            or (key == "required" and not (isinstance(value, list) and all(isinstance(one, str) for one in value)))
            or (key == "properties" and not isinstance(value, dict))
            or (key == "pattern" and not _pattern(value))
        )
        if bad:
            return f"the schema's {key} is not valid"
    return ""


def _pattern(value: Any) -> bool:
    try:
        re.compile(value)
    except (re.error, TypeError):
        return False
    return True


def _parts(schema: dict[str, Any]) -> list[Any]:
    found = [*schema.get("properties", {}).values()]
    found += [part for key in ("anyOf", "oneOf", "allOf") for part in schema.get(key, [])]
    return found + [schema[key] for key in ("items", "additionalProperties", "not") if key in schema]


def fits(value: Any, schema: Any) -> bool:
    """Whether a document satisfies a schema that `schema_error` found readable."""
    return bool(Draft202012Validator(schema).is_valid(value))
