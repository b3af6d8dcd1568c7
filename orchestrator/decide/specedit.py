"""One value of migrate.yaml set as an editor would: comments, order and all else stay as they are."""

from __future__ import annotations

from typing import Any

import yaml

from orchestrator.errors import UsageError
from orchestrator.spec import parse_spec


def set_value(text: str, path: tuple[str, ...], value: str, where: str = "migrate.yaml") -> str:
    """Return the text with the key at `path` set to `value`, which is YAML on one line; its parents must be there.

    Raises UsageError where the file is written in a way that this cannot do safely: the result is read again, and must
    say the same as before but for this key.
    """
    before = parse_spec(text, where).model_dump(mode="json")
    try:
        changed = _changed(text, path, value)
        wanted = _with(before, path, yaml.safe_load(value))
        after = parse_spec(changed, where).model_dump(mode="json")
    except (UsageError, yaml.YAMLError, KeyError, IndexError) as error:
        raise _by_hand(where, path, value) from error
    if _without(after, path) != _without(wanted, path):
        raise _by_hand(where, path, value)
    return changed


def _by_hand(where: str, path: tuple[str, ...], value: str) -> UsageError:
    return UsageError(f"{where} is written in a way that cannot be changed safely from here",
                      hint=f"write {'/'.join(path)}: {value} into it yourself, then run migrate up")  # fmt: skip


def _changed(text: str, path: tuple[str, ...], value: str) -> str:
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    for key in path[:-1]:
        node = _entry(node, key)[1]
    mapping, key = _mapping(node), path[-1]
    there = [(name, old) for name, old in mapping.value if name.value == key]
    if there:
        name, old = there[0]
        return text[: name.end_mark.index] + f": {value}" + text[max(_end(old), name.end_mark.index + 1) :]
    if mapping.flow_style:
        at = mapping.start_mark.index + 1
        return f"{text[:at]}{key}: {value}{', ' if mapping.value else ''}{text[at:]}"
    first = mapping.value[0][0].start_mark
    return f"{text[: first.index]}{key}: {value}\n{' ' * first.column}{text[first.index :]}"


def _entry(node: Any, key: str) -> tuple[Any, Any]:
    found = [(name, value) for name, value in _mapping(node).value if name.value == key]
    return found[0] if found else _missing(key)


def _missing(key: str) -> Any:
    raise KeyError(key)


def _mapping(node: Any) -> Any:
    if not isinstance(node, yaml.MappingNode):
        raise KeyError(str(node))
    return node


def _end(node: Any) -> int:
    """Return where a value's last character is: the end of a block is only known by what stands in it."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        return _end(node.value[-1][1])
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        return _end(node.value[-1])
    return int(node.end_mark.index)


def _with(data: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    inner = _with(data[path[0]], path[1:], value) if len(path) > 1 else value
    return {**data, path[0]: inner}


def _without(data: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """Return the data without what the key says itself: defaults that it fills in are its own affair."""
    return _with(data, path, None)
