"""Mappings and sequences that know their lines, and one laid over another as Compose lays files over one another."""

from __future__ import annotations

from typing import Any

# What a later file says instead of an earlier one; other lists grow.
_REPLACED = ("command", "entrypoint", "test", "device_ids", "capabilities", "include")
_BY_NAME = ("environment", "labels", "depends_on", "extra_hosts")
_BY_TARGET = ("volumes", "devices", "configs", "secrets")


class Map(dict[str, Any]):
    """A mapping with the line of itself and of each key, counted from 1."""

    line: int = 0

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}
        self.marks: dict[str, str] = {}     # key -> !reset or !override

    def at(self, key: str) -> int:
        return self.lines.get(key, self.line)


class Seq(list[Any]):
    """A sequence with the line of itself and of each item."""

    line: int = 0

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[int] = []


def lay_over(under: Map, over: Map) -> None:
    """Lay one mapping over another, in place: mappings and lists grow, the rest is replaced; !reset takes away."""
    for key, value in over.items():
        mark = over.marks.get(key)
        if mark == "!reset":
            under.pop(key, None)
            continue
        before = under.get(key)
        if key in _BY_NAME:
            before, value = _named(before), _named(value)  # noqa: PLW2901 - both forms are one
        if mark is None and isinstance(value, Map) and isinstance(before, Map):
            under[key] = copied(before)
            lay_over(under[key], value)
        elif mark is None and key not in _REPLACED and isinstance(value, Seq) and isinstance(before, Seq):
            under[key] = _grown(before, value, by_target=key in _BY_TARGET)
        else:
            under[key] = value
            under.lines[key] = over.at(key)


def copied(value: Map) -> Map:
    """Return a mapping of the same keys and lines: an anchor gives one mapping to several services."""
    found = Map()
    found.update(value)
    found.line, found.lines, found.marks = value.line, dict(value.lines), dict(value.marks)
    return found


def _named(value: Any) -> Any:
    """Return `KEY=value` items as a mapping; anything else as it is."""
    if not isinstance(value, Seq) or not all(isinstance(one, str) for one in value):
        return value
    found = Map()
    found.line = value.line
    for item, line in zip(value, value.lines, strict=True):
        key, equals, text = item.partition("=")
        found[key] = text if equals else None
        found.lines[key] = line
    return found


def _grown(before: Seq, value: Seq, *, by_target: bool) -> Seq:
    whole = Seq()
    whole.line = before.line
    replaced = {_target(one) for one in value} if by_target else set()
    for source in (before, value):
        for item, line in zip(source, source.lines, strict=True):
            if source is value or _target(item) not in replaced:
                whole.append(item)
                whole.lines.append(line)
    return whole


def _target(item: Any) -> str:
    """Return the place inside the container that a mount is for."""
    if isinstance(item, Map):
        return str(item.get("target"))
    parts = item.split(":") if isinstance(item, str) else [""]
    return parts[1] if len(parts) > 1 else parts[0]
