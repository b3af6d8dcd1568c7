"""The flags of `vllm serve` as the pinned release's own parser has them, and how a command line is read with them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. kind: switch, int, float, size (8k, 2G), json, object (JSON in braces) or text.

    many: argparse's +, * or ?, else empty.
    """

    name: str
    kind: str
    many: str = ""
    choices: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    negated: bool = False       # there is a --no- form
    none: bool = False          # `None` is a value


@dataclass(frozen=True, slots=True)
class Table:
    """What one release knows. removed: flag -> what took its place, empty when nothing is needed."""

    vllm: str
    flags: Mapping[str, Flag]
    spelled: Mapping[str, str]      # every spelling -> full name
    env: frozenset[str]
    removed: Mapping[str, str]

    def find(self, word: str) -> Flag | None:
        """Return the flag behind a word without its value: full, short, negated, with underscores or a dotted key."""
        name = self.spelled.get(spelling(word))
        if name is None and "." in word:
            name = self.spelled.get(spelling(word.partition(".")[0]))
            flag = self.flags.get(name or "")
            return flag if flag and flag.kind in ("json", "object", "text") else None
        return self.flags[name] if name else None

    def abbreviated(self, word: str) -> list[str]:
        """Return the full names that a word abbreviates, which argparse would take without a word."""
        start = spelling(word)
        return sorted(s for s in self.spelled if s.startswith("--") and s.startswith(start)) if len(start) > 2 else []

    def near(self, word: str) -> str:
        """Return the flag that was probably meant; empty when none is close."""
        found = difflib.get_close_matches(spelling(word), [s for s in self.spelled if s.startswith("--")], 1, 0.75)
        return found[0] if found else ""


def spelling(word: str) -> str:
    """Return a flag with dashes: vLLM takes `--max_model_len` too."""
    return word.replace("_", "-") if word.startswith("--") else word


@cache
def table() -> Table:
    """Return the packaged table, read once."""
    data = _read("vllm-flags.json")
    flags = {
        name: Flag(
            name, item["kind"], item.get("many", ""), tuple(item.get("choices", ())), tuple(item.get("also", ())),
            negated=item.get("no", False), none=item.get("none", False),
        )
        for name, item in data["flags"].items()
    }  # fmt: skip
    spelled = {word: name for name, flag in flags.items() for word in (name, *flag.also)}
    spelled |= {f"--no-{name[2:]}": name for name, flag in flags.items() if flag.negated}
    removed = {name: text or "" for name, text in _read("vllm-removed.json")["flags"].items()}
    return Table(data["vllm"], flags, spelled, frozenset(data["env"]), removed)


def _read(name: str) -> dict[str, Any]:
    text = resources.files("orchestrator").joinpath(f"data/{name}").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


@dataclass(frozen=True, slots=True)
class Option:
    """One flag of a command line with its values. `at` is its place in the list, flag is None for an unknown one."""

    word: str           # as written, without =value
    values: tuple[str, ...]
    at: int
    flag: Flag | None
    words: tuple[str, ...]      # every word it takes up, as written

    @property
    def key(self) -> str:
        """What it sets: the full name, with the dotted key where one is given."""
        if not self.flag:
            return spelling(self.word)
        _, dot, rest = self.word.partition(".")
        return self.flag.name + dot + rest

    @property
    def value(self) -> str | None:
        return self.values[0] if self.values else None


@dataclass(frozen=True, slots=True)
class Line:
    """A command line: options in order, and the words that belong to none, with their place."""

    options: tuple[Option, ...]
    loose: tuple[tuple[int, str], ...]

    def get(self, name: str) -> Option | None:
        """Return the option that wins: the last one."""
        return next((one for one in reversed(self.options) if one.key == name), None)


def is_option(word: str) -> bool:
    """Whether argparse takes a word for a flag; negative numbers and words with blanks are values."""
    if len(word) < 2 or not word.startswith("-") or (" " in word and "=" not in word):
        return False
    try:
        float(word)
    except ValueError:
        return True
    return False


def read(args: Sequence[str], known: Table | None = None) -> Line:
    """Read a command line as vLLM's parser would; an unknown flag takes the one plain word that follows it."""
    known = known or table()
    options: list[Option] = []
    loose: list[tuple[int, str]] = []
    at = 0
    while at < len(args):
        word = args[at]
        if not is_option(word):
            loose.append((at, word))
            at += 1
            continue
        if word[:2] == "-O" and word[2:].isdigit():     # as a compiler's: -O3
            word = f"--optimization-level={word[2:]}"
        name, equals, value = word.partition("=")
        flag = known.find(name)
        values = [value] if equals else _values(args[at + 1 :], flag)
        took = 1 if equals else 1 + len(values)
        options.append(Option(name, tuple(values), at, flag, tuple(args[at : at + took])))
        at += took
    return Line(tuple(options), tuple(loose))


def _values(rest: Sequence[str], flag: Flag | None) -> list[str]:
    if flag and flag.kind == "switch":
        return []
    most = len(rest) if flag and flag.many in ("+", "*") else 1
    found: list[str] = []
    for word in rest[:most]:
        if is_option(word):
            break
        found.append(word)
    return found
