"""JSON Schema (2020-12) of frozen dataclasses, as `dataclasses.asdict` writes them. Pure."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from typing import Any

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}

Schema = dict[str, Any]


def of(kind: Any, defs: dict[str, Schema]) -> Schema:
    """Return the schema of a type; dataclasses go into `defs` by name and are referred to.

    Raises TypeError for a type that has no form in JSON here.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return {}
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [of(one, defs) for one in arguments]}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin in (tuple, list):
        return _items(arguments, defs)
    if origin is dict:
        return {"type": "object", "additionalProperties": of(arguments[1], defs)}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        _define(kind, defs)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    raise TypeError(f"{kind!r} has no form in JSON")


def _items(arguments: tuple[Any, ...], defs: dict[str, Schema]) -> Schema:
    if len(arguments) == 1 or arguments[-1] is ...:
        return {"type": "array", "items": of(arguments[0], defs)}
    places = [of(one, defs) for one in arguments]
    return {"type": "array", "prefixItems": places, "minItems": len(places), "maxItems": len(places)}


def _define(kind: type, defs: dict[str, Schema]) -> None:
    if kind.__name__ in defs:
        return
    defs[kind.__name__] = {}    # a type inside itself ends here
    hints = typing.get_type_hints(kind)
    names = [one.name for one in dataclasses.fields(kind)]
    said = inspect.cleandoc(kind.__doc__ or "").split("\n\n")
    text = [" ".join(part.split()) for part in said if not part.startswith(f"{kind.__name__}(")]
    defs[kind.__name__] = {
        "type": "object",
        **({"description": " ".join(text)} if text and text[0] else {}),
        "properties": {name: of(hints[name], defs) for name in names},
        "required": names,
    }


def document(title: str, text: str, properties: Schema, defs: dict[str, Schema], **more: Any) -> Schema:
    """Return a whole schema of an object with these keys; all are required unless `more` says otherwise."""
    return {
        "$schema": DIALECT, "$id": f"urn:migrate:{title}:1", "title": title, "description": text, "type": "object",
        "properties": properties, "required": list(properties), **more, "$defs": dict(sorted(defs.items())),
    }  # fmt: skip
