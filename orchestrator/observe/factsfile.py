"""Facts as a JSON file, to plan on another machine: `migrate facts > FILE`, `migrate plan --facts FILE`."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any

from orchestrator.errors import UsageError
from orchestrator.facts import Facts

SCHEMA = 1
_REMAKE = "make it again on the machine itself: migrate facts > FILE"


def dumps(facts: Facts) -> str:
    """Return facts as JSON text."""
    return json.dumps({"schema": SCHEMA, "facts": dataclasses.asdict(facts)}, indent=1, sort_keys=True) + "\n"


def loads(text: str, origin: str = "facts") -> Facts:
    """Read what `dumps` wrote; keys that this version does not know are passed over.

    Raises UsageError that names every problem with its path.
    """
    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False).encode()      # half a character (\ud800) could not be written again
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{origin} is not JSON: {error}", hint=_REMAKE) from None
    if isinstance(found, dict) and "facts" in found:
        if found.get("schema") != SCHEMA:
            said = f"{origin}: schema is {found.get('schema')!r}, and this version reads {SCHEMA}"
            raise UsageError(said, hint=_REMAKE)
        found = found["facts"]
    problems: list[str] = []
    facts = _thaw(Facts, found, "facts", problems)
    if problems:
        raise UsageError(f"{origin} does not hold facts", evidence="\n".join(problems), hint=_REMAKE)
    return typing.cast("Facts", facts)


def load(path: Path) -> Facts:
    """Read a file of facts; raises UsageError."""
    try:
        return loads(path.read_text(encoding="utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}", hint=_REMAKE) from None


def _thaw(kind: Any, value: Any, at: str, problems: list[str]) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        inner = next(one for one in arguments if one is not type(None))
        return None if value is None else _thaw(inner, value, at, problems)
    if origin is tuple and isinstance(value, list):
        return tuple(_thaw(arguments[0], one, f"{at}[{n}]", problems) for n, one in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: _thaw(arguments[1], one, f"{at}.{key}", problems) for key, one in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return _object(kind, value, at, problems)
    wanted = (int, float) if kind is float else kind
    if isinstance(wanted, (type, tuple)) and isinstance(value, wanted) and (kind is bool or value not in (True, False)
                                                                            or not isinstance(value, bool)):
        return value
    problems.append(f"{at}: {str(value)[:60]!r} is not a {getattr(kind, '__name__', kind)}")
    return None


def _object(kind: Any, value: dict[str, Any], at: str, problems: list[str]) -> Any:
    hints = typing.get_type_hints(kind)
    before = len(problems)
    given = {}
    for one in dataclasses.fields(kind):
        if one.name in value:
            given[one.name] = _thaw(hints[one.name], value[one.name], f"{at}.{one.name}", problems)
        elif one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING:
            problems.append(f"{at}.{one.name} is missing")
    return kind(**given) if len(problems) == before else None
