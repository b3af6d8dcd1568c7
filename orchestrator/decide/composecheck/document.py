"""A YAML text as plain values that know their lines, read as Compose reads it (YAML 1.2 scalars, merge keys, tags)."""

from __future__ import annotations

import re
from typing import Any

import yaml

from orchestrator.decide.composecheck.values import Map, Seq, lay_over
from orchestrator.decide.finding import Finding

_NULL = ("", "~", "null", "Null", "NULL")
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_DEEPEST = 60
_MOST = 200_000  # values, with each alias written out


class Broken(Exception):
    """The text is no YAML; carries the finding."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.what)
        self.finding = finding


def read(text: str) -> tuple[Map, list[Finding]]:
    """Return the document (several are laid over one another) and duplicate keys; raises Broken."""
    try:
        nodes: list[yaml.Node | None] = list(yaml.compose_all(text.lstrip("\ufeff"), Loader=yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise Broken(_unreadable(error, text)) from None
    whole, findings = Map(), list[Finding]()
    for node in nodes:
        if node is None:
            continue
        if _size(node, {}) > _MOST:
            raise Broken(
                Finding("error", "file", "has aliases that multiply one another", "write them out", line=1, code="yaml")
            )
        value = _Reader(findings).value(node, 0)
        if value is None:
            continue
        if not isinstance(value, Map):
            raise Broken(
                Finding(
                    "error",
                    "file",
                    "is no mapping: a Compose file begins with `services:`",
                    "check that this is the right file",
                    line=1,
                    code="yaml",
                )
            )
        lay_over(whole, value)
    return whole, findings


def _size(node: yaml.Node, seen: dict[int, int]) -> int:
    """Return how many values a node holds with its aliases written out; one inside itself counts once."""
    if id(node) not in seen:
        seen[id(node)] = 1
        inner = node.value if isinstance(node, (yaml.SequenceNode, yaml.MappingNode)) else []
        parts = [part for one in inner for part in (one if isinstance(one, tuple) else (one,))]
        seen[id(node)] = 1 + sum(_size(part, seen) for part in parts)
    return seen[id(node)]


class _Reader:
    def __init__(self, findings: list[Finding]) -> None:
        self.findings = findings
        self.seen: dict[int, Any] = {}

    def value(self, node: yaml.Node, depth: int) -> Any:
        if id(node) in self.seen:
            return self.seen[id(node)]
        if depth > _DEEPEST:
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, depth)
        if isinstance(node, yaml.SequenceNode):
            items = Seq()
            items.line = node.start_mark.line + 1
            self.seen[id(node)] = None  # an alias to itself ends here
            for one in node.value:
                items.append(self.value(one, depth + 1))
                items.lines.append(one.start_mark.line + 1)
            self.seen[id(node)] = items
            return items
        return scalar(node.value, quoted=bool(node.style)) if isinstance(node, yaml.ScalarNode) else None

    def _mapping(self, node: yaml.MappingNode, depth: int) -> Map:
        found, merged = Map(), list[Map]()
        found.line = node.start_mark.line + 1
        self.seen[id(node)] = None
        for key_node, value_node in node.value:
            key, line = str(getattr(key_node, "value", "")), key_node.start_mark.line + 1
            if key == "<<" and not getattr(key_node, "style", None):
                under = self.value(value_node, depth + 1)
                merged += [one for one in (under if isinstance(under, Seq) else [under]) if isinstance(one, Map)]
                continue
            if key in found:
                self.findings.append(
                    Finding(
                        "error",
                        key,
                        f"stands twice; Compose refuses the file (first: line {found.at(key)})",
                        "keep one",
                        line=line,
                        code="twice",
                    )
                )
                continue  # the first one is judged on
            found[key] = self.value(value_node, depth + 1)
            found.lines[key] = line
            if value_node.tag in ("!reset", "!override"):
                found.marks[key] = value_node.tag
        for under in merged:
            for key, value in under.items():
                if key not in found:
                    found[key] = value
                    found.lines[key] = under.at(key)
        self.seen[id(node)] = found
        return found


def scalar(text: str, *, quoted: bool) -> Any:
    """Return what YAML 1.2 makes of a scalar: `yes`, `22:22` and dates stay text."""
    if quoted:
        return text
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if re.fullmatch(r"[-+]?[0-9]{1,18}", text):
        return int(text)
    if re.fullmatch(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", text):
        return float(text)
    return text


def _unreadable(error: Exception, text: str) -> Finding:
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark else 1
    what = str(getattr(error, "problem", None) or getattr(error, "reason", None) or type(error).__name__)
    lines = text.splitlines()
    before = lines[: line + 1]
    tab = next((at for at, one in enumerate(before, 1) if re.match(r" *\t", one)), 0)
    if tab:
        return Finding(
            "error",
            "file",
            "is no YAML: a tab indents this line",
            "indent with blanks",
            evidence=what,
            line=tab,
            code="yaml",
        )
    shown = lines[line - 1].strip()[:80] if line <= len(lines) else "the end of the file"
    return Finding(
        "error",
        "file",
        f"is no YAML: {what}",
        "check indentation and quotes here and one line above",
        evidence=shown,
        line=line,
        code="yaml",
    )
