"""Each row of the table of fields is proven: what the engine is asked, and what the client is told.

`CONFORMANCE_FIELDS` points it to another folder. `--update` writes docs/ollama-api.md when all rows hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import compare
import fields
import httpx
import pytest
from adapter_engine import ROUTE, FakeEngine, free_port, serve
from fields import Api, Field, Json

APIS = fields.load()
PROBES = [
    pytest.param(api, row, probe, id=f"{api.name}: {row.name} {at}")
    for api in APIS
    for row in api.fields
    for at, probe in enumerate(row.probes, 1)
]


@dataclass
class Stage:
    url: str
    engine: FakeEngine


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("fields")
    with FakeEngine(free_port()) as engine:
        routes = {name: {**ROUTE, "url": engine.url, "parameters": {}, **model} for name, model in fields.MODELS.items()}
        (folder / "config.json").write_text(json.dumps({"version": "0.32.15", "routes": routes}))
        for url in serve(folder / "config.json", free_port(), folder / "log"):
            yield Stage(url, engine)


def differs(expected: Any, found: Any, where: str = "") -> str | None:
    """Return where a value lacks what is expected; None in it means that nothing must be there."""
    if isinstance(expected, dict) and expected:
        if not isinstance(found, dict):
            return f"{where}: {found!r} is no object"
        return next((why for key, value in expected.items() if (why := differs(value, found.get(key), f"{where}.{key}"))), None)
    if isinstance(expected, list) and expected:
        if not isinstance(found, list) or len(found) < len(expected):
            return f"{where}: {found!r}, expected {expected!r}"
        return next((why for at, value in enumerate(expected) if (why := differs(value, found[at], f"{where}[{at}]"))), None)
    if isinstance(expected, float) and isinstance(found, int | float):
        return None if abs(expected - found) < 1e-8 else f"{where}: {found!r}, expected {expected!r}"
    same = found in (None, []) if expected is None else found == expected
    return None if same else f"{where}: {found!r}, expected {expected!r}"


def last(frames: list[tuple[str, Any]]) -> Any:
    return next((value for _, value in reversed(frames) if isinstance(value, dict)), None)


def words(frames: list[tuple[str, Any]]) -> str:
    found = []
    for _, value in frames:
        if isinstance(value, dict):
            inner = value.get("message") or (value.get("choices") or [{}])[0].get("delta") or value
            found.append(inner.get("content") or inner.get("response") or "")
    return "".join(found)


@pytest.mark.parametrize(("api", "row", "probe"), PROBES)
def test_the_row_holds(stage: Stage, api: Api, row: Field, probe: Json) -> None:
    before = len(stage.engine.requests)
    answer = httpx.post(stage.url + api.path, content=fields.request_of(api, probe), timeout=30, trust_env=False)
    kind = answer.headers.get("content-type")
    assert (why := fields.refused_alike(probe, answer.status_code, answer.text)) is None, why
    asked = stage.engine.requests[before:]
    if probe.get("asks") == "nothing":
        assert asked == []
    elif "asks" in probe:
        assert (why := differs(probe["asks"], asked[-1])) is None, why
    if "type" in probe:
        assert kind == probe["type"]
    frames = compare.frames(answer.text, kind)
    if "answers" in probe:
        assert (why := differs(probe["answers"], last(frames))) is None, why
    if "says" in probe:
        assert words(frames) == probe["says"]
    if "ends" in probe:
        assert frames[-1][1] == probe["ends"]


def test_every_row_is_complete() -> None:
    keys = {"send", "drop", "raw", "long", "status", "error", "contains", "type", "asks", "answers", "says", "ends"}
    for api in APIS:
        for row in api.fields:
            assert row.state in fields.STATES
            assert row.says
            assert all(probe.keys() <= keys for probe in row.probes), (row.name, row.probes)
            assert row.probes or not api.base or "GET" in api.name, row.name


def test_the_document_is_made_of_these_rows(request: pytest.FixtureRequest) -> None:
    text = fields.document(APIS)
    if request.config.getoption("--update", default=False):
        assert not request.session.testsfailed, "not written: not all rows hold"
        fields.DOCUMENT.write_text(text, encoding="utf-8")
    assert fields.DOCUMENT.read_text(encoding="utf-8") == text
