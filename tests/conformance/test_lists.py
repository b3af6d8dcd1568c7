"""Lists of models show both sides, with Ollama there and when it is gone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import servers
from adapter_engine import ROUTE, free_port, serve

OWN = "only-here:latest"


@dataclass
class Both:
    adapter: str
    ollama: servers.Running

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(self.adapter + path, headers=headers, trust_env=False)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return httpx.post(self.adapter + path, json=body, trust_env=False)


def started(folder: Path, ollama: servers.Running) -> Iterator[Both]:
    routes = {name: {**ROUTE, "url": "http://127.0.0.1:9"} for name in ("llama3.1:8b", OWN)}
    config = folder / "config.json"
    config.write_text(json.dumps({"version": "0.32.15", "ollama": ollama.url, "routes": routes}))
    for url in serve(config, free_port(), folder / "log"):
        yield Both(url, ollama)


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    (tmp_path / "models").mkdir()
    ollama = servers.ollama(tmp_path / "models", described=servers.HERE / "models.json")
    yield from started(tmp_path, ollama)
    ollama.stop()


def names(answer: httpx.Response) -> list[str]:
    listed = answer.json()
    return [entry.get("name") or entry["id"] for entry in listed.get("models", listed.get("data"))]


def test_every_model_is_listed_once(both: Both) -> None:
    for path in ("/api/tags", "/v1/models"):
        own = names(httpx.get(both.ollama.url + path, trust_env=False))
        answer = both.get(path)
        assert sorted(names(answer)) == sorted([*own, OWN])
        assert "llama3.1:8b" in own
    stamps = [entry["modified_at"] for entry in both.get("/api/tags").json()["models"]]
    assert stamps == sorted(stamps, reverse=True)


def test_what_an_engine_serves_is_loaded_and_what_ollama_loads_too(both: Both) -> None:
    assert sorted(names(both.get("/api/ps"))) == ["llama3.1:8b", OWN]
    httpx.post(f"{both.ollama.url}/api/generate", json={"model": "mistral:7b"}, trust_env=False)
    loaded = both.get("/api/ps").json()["models"]
    assert sorted(entry["name"] for entry in loaded) == ["llama3.1:8b", "mistral:7b", OWN]
    assert len({tuple(sorted(entry)) for entry in loaded}) == 1  # the same fields on both sides


def test_ollama_shows_its_own_and_we_the_rest(both: Both) -> None:
    assert both.post("/api/show", model="mistral:7b").json() == httpx.post(
        f"{both.ollama.url}/api/show", json={"model": "mistral:7b"}, trust_env=False
    ).json()  # fmt: skip
    assert both.post("/api/show", model=OWN).json()["details"]["family"] == "llama"
    refused = both.post("/api/show", model="nope")
    assert (refused.status_code, refused.json()) == (404, {"error": "model 'nope:latest' not found"})
    assert both.get("/v1/models/mistral:7b").json()["id"] == "mistral:7b"
    assert both.get(f"/v1/models/{OWN}").json()["id"] == OWN
    assert both.get("/v1/models/nope").status_code == 404


def test_ollamas_rules_for_origins_hold(both: Both) -> None:
    assert both.get("/api/tags", origin="https://evil.example").status_code == 403
    allowed = both.get("/api/tags", origin="http://localhost:3000")
    direct = httpx.get(f"{both.ollama.url}/api/tags", headers={"origin": "http://localhost:3000"}, trust_env=False)
    assert allowed.status_code == 200
    for name in ("access-control-allow-origin", "content-type"):
        assert allowed.headers.get(name) == direct.headers.get(name)


def test_without_ollama_the_migrated_models_are_still_there(both: Both) -> None:
    both.ollama.stop()
    for path in ("/api/tags", "/api/ps", "/v1/models"):
        assert sorted(names(both.get(path))) == ["llama3.1:8b", OWN]
    assert both.post("/api/show", model="llama3.1:8b").status_code == 200
    assert both.post("/api/show", model="mistral:7b").status_code == 404
    assert both.get("/v1/models/llama3.1:8b").status_code == 200
    assert httpx.head(both.adapter + "/api/tags", trust_env=False).status_code == 200
