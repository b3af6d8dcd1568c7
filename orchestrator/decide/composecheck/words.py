"""Texts of a Compose file as a container gets them: variables filled in, commands split, shells unwrapped."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.decide.composecheck.values import Map, Seq

_VARIABLE = re.compile(r"\$(?:\$|(?P<plain>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?P<rest>[^{}]*)\})")
SHELLS = ("sh", "bash", "/bin/sh", "/bin/bash", "ash", "dash", "/usr/bin/bash")


def fill(text: str, env: Mapping[str, str]) -> str:
    """Return a text with its variables replaced; one that has no value keeps its reference."""
    for _ in range(4):  # a default may hold another variable
        after = _VARIABLE.sub(lambda found: _filled(found, env), text)
        if after == text:
            break
        text = after
    return text.replace("$\0", "$")


def _filled(found: re.Match[str], env: Mapping[str, str]) -> str:
    if found[0] == "$$":
        return "$\0"
    name, rest = found["plain"] or found["name"], found["rest"] or ""
    value = env.get(name)
    operator, default = (rest[:2], rest[2:]) if rest[:1] == ":" else (rest[:1], rest[1:])
    empty = value is None or (operator.startswith(":") and not value)
    if operator.endswith("+"):
        return "" if empty else default
    if not empty:
        return value or ""
    return default if operator.endswith("-") else found[0]


@dataclass(frozen=True, slots=True)
class Word:
    """One argument of a command and its line."""

    text: str
    line: int


def argv(value: Any, line: int, env: Mapping[str, str], text: str) -> tuple[Word, ...]:
    """Return the arguments as Compose splits them: a string by shell rules without comments, a list as it is."""
    if isinstance(value, Seq):
        return tuple(
            Word(fill(text_of(item), env), at) for item, at in zip(value, value.lines, strict=True) if item is not None
        )
    if value is None or isinstance(value, Map):
        return ()
    whole = fill(str(value), env)
    try:
        words = shlex.split(whole, comments=False)
    except ValueError:  # a quotation that does not end
        words = whole.split()
    return tuple(_placed(words, line, text))


def _placed(words: list[str], line: int, text: str) -> list[Word]:
    lines = text.splitlines()
    placed, column = [], 0
    at = line - 1
    for word in words:
        for number in range(at, min(len(lines), line + 120)):
            place = lines[number].find(word, column if number == at else 0)
            if place >= 0:
                at, column = number, place + len(word)
                break
        placed.append(Word(word, at + 1))
    return placed


def unwrapped(entry: tuple[str, ...], words: tuple[Word, ...]) -> tuple[tuple[Word, ...], bool]:
    """Return the arguments inside `sh -c "…"`, up to the first operator of the shell, and whether there was one."""
    whole = [*(Word(word, words[0].line if words else 0) for word in entry), *words]
    if len(whole) < 2 or whole[0].text not in SHELLS or not whole[1].text.startswith("-") or "c" not in whole[1].text:
        return words, False
    script = whole[2] if len(whole) > 2 else Word("", 0)
    try:
        inside = shlex.split(script.text, comments=True)
    except ValueError:
        inside = script.text.split()
    for start, word in enumerate(inside):
        if word == "serve" and start and inside[start - 1].endswith(("vllm", "ollama")):
            inside = inside[start - 1 :]
            break
        if word == "vllm.entrypoints.openai.api_server":
            inside = inside[start:]
            break
    end = next((at for at, word in enumerate(inside) if word in ("&&", "||", ";", "|", "&", ">", ">>")), len(inside))
    return tuple(Word(word, script.line) for word in inside[:end]), True


def variables(value: Any, line: int) -> dict[str, Word]:
    """Return the environment as written, from a mapping or from KEY=value items; a bare KEY is a reference."""
    if isinstance(value, Map):
        return {key: Word(f"${{{key}}}" if one is None else text_of(one), value.at(key)) for key, one in value.items()}
    found = {}
    for item, at in zip(value, value.lines, strict=True) if isinstance(value, Seq) else ():
        if isinstance(item, (str, int, float)):
            key, equals, one = str(item).partition("=")
            found[key.strip()] = Word(one if equals else f"${{{key}}}", at or line)
    return found


def text_of(value: Any) -> str:
    if isinstance(value, (Map, Seq)):  # aliases may make a few lines of YAML endless text
        return ""
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
