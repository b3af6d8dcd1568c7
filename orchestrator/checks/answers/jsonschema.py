"""The part of JSON schema that suites use: enough to tell a fitting answer, and honest about what it does not read."""

from __future__ import annotations

import re
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "boolean": (bool,), "null": (type(None),),
    "integer": (int,), "number": (int, float),
}  # fmt: skip
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
    if isinstance(schema, bool):
        return schema
    return all((
        _typed(value, schema), _bounded(value, schema), _object(value, schema), _array(value, schema),
        "enum" not in schema or value in schema["enum"],
        "const" not in schema or value == schema["const"],
        all(fits(value, part) for part in schema.get("allOf", [])),
        "anyOf" not in schema or any(fits(value, part) for part in schema["anyOf"]),
        "oneOf" not in schema or sum(fits(value, part) for part in schema["oneOf"]) == 1,
        "not" not in schema or not fits(value, schema["not"]),
    ))  # fmt: skip


def _typed(value: Any, schema: dict[str, Any]) -> bool:
    kinds = schema.get("type")
    if kinds is None:
        return True
    return any(_is(value, kind) for kind in (kinds if isinstance(kinds, list) else [kinds]))


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind]) or (kind == "integer" and isinstance(value, float) and value.is_integer())


def _bounded(value: Any, schema: dict[str, Any]) -> bool:
    if isinstance(value, str):
        least, most = schema.get("minLength", 0), schema.get("maxLength", len(value))
        return least <= len(value) <= most and ("pattern" not in schema or bool(re.search(schema["pattern"], value)))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (
            schema.get("minimum", value) <= value <= schema.get("maximum", value)
            and not ("exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"])
            and not ("exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"])
        )
    return True


def _object(value: Any, schema: dict[str, Any]) -> bool:
    if not isinstance(value, dict):
        return True
    known = schema.get("properties", {})
    more = schema.get("additionalProperties", True)
    return all((
        all(key in value for key in schema.get("required", [])),
        all(fits(value[key], part) for key, part in known.items() if key in value),
        all(fits(value[key], more) for key in value if key not in known),
    ))  # fmt: skip


def _array(value: Any, schema: dict[str, Any]) -> bool:
    if not isinstance(value, list):
        return True
    least, most = schema.get("minItems", 0), schema.get("maxItems", len(value))
    return least <= len(value) <= most and all(fits(one, schema.get("items", True)) for one in value)
