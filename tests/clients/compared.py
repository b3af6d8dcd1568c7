"""Two sides' results side by side: what differs, and what differences.yaml says of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

TABLE = Path(__file__).parent / "differences.yaml"
ABSENT = "absent"


@dataclass(frozen=True)
class Difference:
    """A place in a client's result where the sides are not alike; values are shapes."""

    client: str
    case: str
    path: str
    ollama: Any
    other: Any

    def __str__(self) -> str:
        return f"{self.client} {self.case} at {self.path or 'its top'}: {self.ollama!r} on Ollama, {self.other!r}"


@dataclass(frozen=True)
class Row:
    """A declared difference: patterns as of file names, several with commas."""

    clients: str
    cases: str
    paths: str
    why: str
    only: str = ""  # `more`: covers only what Ollama does not have
    sides: str = "vllm, absent"  # absent: vLLM answers and Ollama is gone

    def covers(self, one: Difference, side: str = "vllm") -> bool:
        if side not in self.sides.split(", "):
            return False
        pairs = ((one.client, self.clients), (one.case, self.cases), (one.path, self.paths))
        return (self.only != "more" or one.ollama == ABSENT) and all(
            any(fnmatchcase(value, pattern) for pattern in patterns.split(", ")) for value, patterns in pairs
        )


def rows(path: Path = TABLE) -> list[Row]:
    return [Row(**{key: str(value) for key, value in row.items()}) for row in yaml.safe_load(path.read_text())]


def walk(ollama: Any, other: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the places (`a.b[0]`) where two shapes differ, with what each side has there."""
    if isinstance(ollama, dict) and isinstance(other, dict):
        for key in [*ollama, *(key for key in other if key not in ollama)]:
            inner = f"{path}.{key}" if path else key
            yield from walk(ollama.get(key, ABSENT), other.get(key, ABSENT), inner)
    elif isinstance(ollama, list) and isinstance(other, list) and len(ollama) == len(other):
        for at, (one, two) in enumerate(zip(ollama, other, strict=True)):
            yield from walk(one, two, f"{path}[{at}]")
    elif ollama != other:
        yield path, ollama, other


def differences(client: str, ollama: dict[str, Any], other: dict[str, Any]) -> list[Difference]:
    """Return where the results of a client's script differ; a case that one side lacks is a difference too."""
    cases = [*ollama, *(case for case in other if case not in ollama)]
    return [
        Difference(client, case, *found)
        for case in cases
        for found in walk(ollama.get(case, ABSENT), other.get(case, ABSENT))
    ]
