"""The built-in suite: data/answers/*.yaml, one file per group."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import yaml

from orchestrator.checks.answers.case import Ask, Case

_FILLER = re.compile(r"\{\{filler (\d+)\}\}")
_WEATHER = ("calm", "a light breeze", "fog until noon", "steady rain", "clear and cold", "a strong wind from the west")
_WORK = ("nets were mended", "two boats came in", "the crane was oiled", "nobody went out", "salt was unloaded")


def builtin_suite() -> tuple[Case, ...]:
    """Return every case of the built-in suite, in the order of the groups' names."""
    folder = files("orchestrator").joinpath("data/answers")
    texts = {one.name: one.read_text("utf-8") for one in folder.iterdir() if one.name.endswith(".yaml")}
    return tuple(case for name in sorted(texts) for case in _group(yaml.safe_load(texts[name])))


def groups() -> tuple[str, ...]:
    """Return the names of the built-in groups."""
    return tuple(dict.fromkeys(case.group for case in builtin_suite()))


def _group(data: dict[str, Any]) -> list[Case]:
    found = []
    for one in data["cases"]:
        messages = one.get("messages") or [{"role": "user", "content": one["ask"]}]
        filled = tuple({**message, "content": _filled(message["content"])} for message in messages)
        params = {**data.get("params", {}), **one.get("params", {})}
        ask: Ask = "free" if data.get("free") else "cut" if one.get("cut") else "equal"
        found.append(Case(f"{data['group']}/{one['id']}", data["group"], filled, params, tuple(one.get("assert", ())),
                          ask))  # fmt: skip
    return found


def _filled(text: str) -> str:
    return _FILLER.sub(lambda found: "\n".join(map(_line, range(1, int(found[1]) + 1))), text)


def _line(day: int) -> str:
    return f"Day {day}: {_WEATHER[day * 5 % len(_WEATHER)]}; {_WORK[day * 3 % len(_WORK)]}."
