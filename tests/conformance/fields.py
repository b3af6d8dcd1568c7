"""The table of fields: what the YAML files of `fields/` declare, and the document that is made of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import migrated
import yaml

Json = dict[str, Any]
HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("CONFORMANCE_FIELDS") or HERE / "fields")
DOCUMENT = HERE.parents[1] / "docs" / "ollama-api.md"
STATES = ("same", "approximated", "refused")


@dataclass(frozen=True)
class Field:
    """One row: a field of an API, how it is treated, and the requests that prove it."""

    api: str
    name: str
    state: str
    says: str
    probes: tuple[Json, ...]


@dataclass(frozen=True)
class Api:
    """One endpoint: its path and the request that probes change."""

    name: str
    path: str
    base: Json
    fields: tuple[Field, ...]


def load() -> list[Api]:
    """Return the endpoints in the order of their files."""
    return [_api(yaml.safe_load(path.read_text(encoding="utf-8"))) for path in sorted(FOLDER.glob("*.yaml"))]


def _api(data: Json) -> Api:
    name = data["api"]
    rows = tuple(
        Field(name, row["field"], row["state"], row["says"], tuple(row.get("probes", ()))) for row in data["fields"]
    )
    return Api(name, data.get("path", name.rpartition(" ")[2]), data.get("base", {}), rows)


def document(apis: list[Api]) -> str:
    """Return the text of docs/ollama-api.md."""
    lines = [*_HEAD]
    for api in apis:
        lines += ["", f"## {api.name}", "", "| field | | what happens |", "|---|---|---|"]
        lines += [f"| {_cell(row.name)} | {row.state} | {_cell(row.says)} |" for row in api.fields]
    lines += ["", *_DIFFERENCES, *(f"- {text}" for text in _reasons())]
    return "\n".join(lines) + "\n"


def _reasons() -> list[str]:
    """Return the declared differences that are the product's, not those of an engine that stands in."""
    product = [one for one in migrated.DIFFERENCES if "standin" in one.where or len(one.where) > 1]
    return [one.why + (f" (status {one.status})" if one.status else "") for one in product]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


_HEAD = (
    "# Ollama's API in front of vLLM",
    "",
    "What clients of Ollama find while vLLM serves their model, field by field. `same`: as Ollama. `approximated`: not",
    "quite, and how. `refused`: an error instead of a wrong answer. Made of `tests/conformance/fields`, whose requests",
    "are sent in `tests/conformance/test_fields.py`; written by `pytest tests/conformance/test_fields.py --update`.",
)
_DIFFERENCES = (
    "## What differs from the recordings of a real Ollama",
    "",
    "Recorded requests are replayed through gateway and adapter; status, fields, types, framing and error texts are",
    "Ollama's, except:",
    "",
)
