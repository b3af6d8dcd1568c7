"""What a real Ollama answered, asked again of the adapter alone: same status, type, fields, framing, error texts.

`CONFORMANCE_RECORDINGS` points it to another folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import migrated
import pytest
import recorded
from adapter_engine import ROUTE, FakeEngine, free_port, serve
from recorded import Case

CASES = [case for case in recorded.load() if migrated.concerns(case)]
CHECKED = [case for case in CASES if case.path.split("?")[0] not in ("/api/show", "/v1/models")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("adapter")
    details = {"parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
               "parameter_size": "8B", "quantization_level": "F16", "context_length": 2048}  # fmt: skip
    with FakeEngine(free_port()) as engine:
        common = {**ROUTE, "url": engine.url, "parameters": {}, "details": details}
        routes = {name: {**common, **_served(fields)} for name, fields in migrated.models(CASES).items()}
        (folder / "config.json").write_text(json.dumps({"version": "0.32.15", "routes": routes}))
        yield from serve(folder / "config.json", free_port(), folder / "log")


def _served(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "served": "emb:latest"} if "embedding" in fields["capabilities"] else fields


@pytest.mark.parametrize("case", CHECKED, ids=lambda case: case.name)
def test_the_adapter_answers_as_ollama_did(base: str, case: Case) -> None:
    answer = httpx.request(case.method, base + case.path, content=case.sent, headers=case.headers)
    wrong = migrated.judge(case, answer.status_code, answer.headers.get("content-type"), answer.text, place="fake")
    assert wrong is None, wrong


def test_there_are_recordings() -> None:
    assert CHECKED, f"no recordings of a migrated model's API below {recorded.folder()}"
