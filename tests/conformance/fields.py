"""The table of fields: what the YAML files of `fields/` declare, and the document that is made of it."""

from __future__ import annotations

import copy
import json
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
MODELS: dict[str, Json] = {
    "llama3.1:8b": {"capabilities": ["completion", "tools"]},
    "thinker:latest": {"capabilities": ["completion", "thinking"]},
    "eyes:latest": {"capabilities": ["completion", "vision"]},
    "support-bot:latest": {"capabilities": ["completion", "tools"], "served": "support"},
    "nomic-embed-text:latest": {"capabilities": ["embedding"], "served": "emb:latest"},
    "custom:latest": {
        "capabilities": ["completion", "tools"],
        "system": "Be terse.",
        "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}],
        "parameters": {"temperature": 0.1, "num_predict": 2, "seed": 7, "stop": ["<|eot|>"]},
    },
}
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


def portable(apis: list[Api]) -> list[tuple[str, Api, Json]]:
    """Return the requests that any engine can be asked: those that do not lean on what the small one is told to do."""
    told = ("weather", "die now", "refuse", "eyes")
    return [
        (f"{api.name}: {row.name} {at}", api, probe)
        for api in apis
        for row in api.fields
        for at, probe in enumerate(row.probes, 1)
        if "long" not in probe and not any(word in str(probe) for word in told)
    ]


def request_of(api: Api, probe: Json) -> bytes:
    """Return the body that a probe sends: the API's base, changed."""
    if "raw" in probe:
        return str(probe["raw"]).encode()
    body = copy.deepcopy(api.base)
    for name in probe.get("drop", ()):
        body.pop(name, None)
    body |= probe.get("send", {})
    if "long" in probe:  # so many messages, together beyond the small engine's 1,024 words
        body["messages"] = [{"role": "user", "content": "word " * 1100}] * (probe["long"] - 1)
        body["messages"] += [{"role": "user", "content": "short" if probe["long"] > 1 else "word " * 1100}]
    return json.dumps(body).encode()


def error_text(body: str) -> str:
    """Return the sentence of an error, whatever the API."""
    error = json.loads(body)["error"]
    return str(error["message"] if isinstance(error, dict) else error)


def refused_alike(probe: Json, status: int, body: str) -> str | None:
    """Return what is wrong with the status or the sentence of an answer to a probe."""
    if status != probe.get("status", 200):
        return f"status {status}: {body[:400]}"
    if "error" in probe and error_text(body) != probe["error"]:
        return f"{error_text(body)!r} instead of {probe['error']!r}"
    if "contains" in probe and probe["contains"] not in error_text(body):
        return f"{error_text(body)!r} lacks {probe['contains']!r}"
    return None


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
    product = [one for one in migrated.DIFFERENCES if one.where == migrated.EVERYWHERE]
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
