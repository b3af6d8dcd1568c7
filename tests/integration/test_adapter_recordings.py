"""What a real Ollama answered, asked again of the adapter: same status, type, fields, framing, error texts.

Texts and numbers differ (another model answers); everything else must not, except where KNOWN says why.
`ADAPTER_RECORDINGS` points the suite to another folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from adapter_engine import ROUTE, FakeEngine, free_port, serve

FOLDER = Path(os.environ.get("ADAPTER_RECORDINGS", Path(__file__).parent / "adapter_recordings"))
PATHS = (
    "/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/api/ps", "/v1/chat/completions",
    "/v1/completions", "/v1/embeddings", "/v1/models/nope",
)  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "llama3.1:8b": {},
    "mistral:7b": {},
    "slow:latest": {},
    "assistant-custom:latest": {"system": "Be brief."},
    "tinyjinja:latest": {"capabilities": ["completion"]},
    "thinker:latest": {"capabilities": ["completion", "thinking"]},
    "nomic-embed-text:latest": {"served": "emb:latest", "capabilities": ["embedding"]},
}
KNOWN = {
    "chat-bad-model-name": "the gateway sends only names that have a route",
    "chat-debug-render": "prompts are rendered by the engine",
    "chat-images-on-text-model-stream": "the error's charset is always named",
    "generate-bad-json": "another parser, another sentence",
    "generate-template-bad": "templates of requests are ignored",
    "chat-format-bad-schema": "the engine's grammar judges schemas, and the one here has none",
    "chat-too-long-prompt-truncate-false": "the engine here does not count tokens",
}
# Broken stores, dead runners, refused origins, unloaded models: states that an engine does not have.
OF_OLLAMA_ALONE = ("corrupt-", "missing-blob-", "load-out-of-memory-", "runner-", "cors-", "ps-", "env-ps-")


def recordings() -> list[Any]:
    """Return the recordings that are about models the adapter serves."""
    found = []
    for path in sorted(FOLDER.glob("*.json")):
        if path.name.startswith(OF_OLLAMA_ALONE):
            continue
        data = json.loads(path.read_text())
        if not isinstance(data, dict) or "body" not in data or data["request"]["path"] not in PATHS:
            continue
        found.append(pytest.param(data, id=path.stem))
    return found


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("adapter")
    details = {"parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
               "parameter_size": "8B", "quantization_level": "F16", "context_length": 2048}  # fmt: skip
    with FakeEngine(free_port()) as engine:
        common = {**ROUTE, "url": engine.url, "parameters": {}, "details": details}
        routes = {name: {**common, **fields} for name, fields in MODELS.items()}
        (folder / "config.json").write_text(json.dumps({"version": "0.32.15", "routes": routes}))
        yield from serve(folder / "config.json", free_port(), folder / "log")


def shape(value: Any) -> Any:
    """Return fields in order with the kinds of their values; of a list the first entry."""
    if isinstance(value, dict):
        return [(name, shape(inner)) for name, inner in value.items()]
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def parts(text: str, kind: str) -> list[str]:
    if "event-stream" in kind:
        return [event.removeprefix("data: ") for event in text.split("\n\n") if event]
    return text.splitlines() if "ndjson" in kind else [text]


def shapes(text: str, kind: str) -> list[Any]:
    """Return the shapes of the first and the last events; how many come between depends on the tokens."""
    events = parts(text, kind)
    tail = events[-2:] if "event-stream" in kind else events[-1:]
    return [shape(json.loads(event)) if event.startswith("{") else event for event in [events[0], *tail]]


def finished(text: str) -> bool:
    """Tell whether the recorded answer is whole: Ollama cuts off an answer that repeats itself."""
    return (
        '"done":false}' not in text[-20:] and '"finish_reason":null}' not in text.split(',"usage"', maxsplit=1)[0][-30:]
    )


@pytest.mark.parametrize("recorded", recordings())
def test_the_adapter_answers_as_ollama_did(base: str, recorded: dict[str, Any], request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.id
    if name in KNOWN:
        request.applymarker(pytest.mark.xfail(strict=True, reason=KNOWN[name]))
    asked = recorded["request"]
    content = asked["body"] if isinstance(asked["body"], str | None) else json.dumps(asked["body"])
    answer = httpx.request(asked["method"], base + asked["path"], content=content, headers=asked["headers"])
    kind = recorded["headers"].get("content-type", "")
    body = recorded["body"] if isinstance(recorded["body"], str) else "".join(recorded["body"])
    assert answer.status_code == recorded["status"]
    assert answer.headers["content-type"] == kind
    assert answer.text.endswith("\n") == body.endswith("\n")
    if recorded["status"] >= 400:
        assert answer.text == body
    elif finished(body):
        assert shapes(answer.text, kind) == shapes(body, kind)


def test_there_are_recordings() -> None:
    assert len(recordings()) > 50
