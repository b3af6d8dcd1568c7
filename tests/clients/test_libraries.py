"""LangChain through the adapter, Anthropic's client on vLLM: libraries of which the project has none itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clients_modules import ROOT, load


@pytest.fixture
def adapter(tmp_path: Path) -> Iterator[str]:
    """The address of an adapter in front of an engine that answers with what it is asked."""
    engines = load("clients_adapter_engine", ROOT / "tests" / "integration" / "adapter_engine.py")
    with engines.FakeEngine(engines.free_port()) as engine:
        route = {**engines.ROUTE, "url": engine.url}
        routes = {"llama3.1:8b": route, "emb:latest": {**route, "served": "emb:latest", "capabilities": ["embedding"]}}
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"ollama": "", "version": "0.32.15", "routes": routes}))
        yield from engines.serve(config, engines.free_port(), tmp_path / "log")


def test_langchain_through_the_adapter(drive: Callable[..., Any], adapter: str) -> None:
    told = drive("libraries", {"library": "langchain", "with": [adapter, "llama3.1:8b", "emb"]})
    assert (told["text"], told["tokens"]) == ("one two three", 3)
    assert "".join(told["stream"]) == "one two three"
    assert len(told["stream"]) > 2
    assert told["calls"] == [["weather", {"city": "Oslo"}], ["time", {}]]
    assert told["vectors"] == [4, 4]


@pytest.mark.parametrize("engine", ["vllm", "ollama"])
def test_anthropic_on_both_sides(
    drive: Callable[..., Any], servers: Any, started: Callable[[Any], Any], engine: str, tmp_path: Path,
) -> None:
    """The protocol is on both; the gateway hands it on to vLLM under the name that callers used."""
    server = started(servers.vllm("m", "--served-model-name", "llama3.1:8b") if engine == "vllm"
                     else servers.ollama(tmp_path / "models"))  # fmt: skip
    told = drive("libraries", {"library": "anthropic", "with": [server.url, "llama3.1:8b"]})
    assert told["text"]
    assert told["tokens"] > 0
    assert told["parts"] > 1
    assert told["stream"]
    assert told["stop"] in ("end_turn", "max_tokens")
