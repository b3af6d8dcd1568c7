"""One store, seen through a running (stand-in) Ollama and through its files: the same facts, but for what is named."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import fields
from datetime import datetime
from typing import Any

import pytest
import standin_servers
from gguf_files import GgufFile

from orchestrator.decide.dimensions import installed
from orchestrator.decide.ggufshape import from_gguf
from orchestrator.decide.shared import weights_of
from orchestrator.facts import Model
from orchestrator.observe import ollama, volume
from orchestrator.standin.ollama import listing
from orchestrator.standin.ollama.models import Model as Standin
from orchestrator.standin.ollama.models import defaults
from orchestrator.standin.ollama.store import Store

# A server says these, no file does, or says them otherwise; every other field must be equal.
APART = {
    "details": "the folder of the blobs is another one; a server adds lengths that stand in model_info too",
    "modified_at": "a server writes the zone of its container",
}
NAMES = ("hf.co/bartowski/Llama-3.1-8B-Instruct-GGUF:Q4_K_M", "team/persona:v1")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Model], dict[str, Model]]:
    """The facts of a server, and those of a copy of its folder in which the weights are real GGUF headers."""
    live, still = tmp_path_factory.mktemp("live"), tmp_path_factory.mktemp("still") / "models"
    store = Store(live)
    store.seed(None)
    base = defaults()["llama3.1:8b"]
    persona = {"system": "Be brief.\nAlways.", "messages": ({"role": "user", "content": "hi"},),
               "parameters": {"num_ctx": 8192, "temperature": 0.25, "stop": ["a", "<|b|>"]}}  # fmt: skip
    store.put(NAMES[0], base)
    store.put(NAMES[1], Standin(base.weights, base.capabilities, base.template, **persona))
    server = standin_servers.ollama(live)
    try:
        running = {one.name: one for one in ollama.look(server.url).models}
    finally:
        server.stop()
    shutil.copytree(live, still)
    for model in store.models():
        with (still / "blobs" / model.blob.replace(":", "-")).open("wb") as blob:
            blob.write(gguf(model))
            blob.truncate(model.weights.size)       # a hole: the weights themselves are never read
    stopped, problems = volume.look(still)
    assert problems == ()
    return running, {one.name: one for one in stopped}


def gguf(model: Standin) -> bytes:
    """Write what the server tells of a model as a file's header; arrays and texts that it keeps back too."""
    made = GgufFile().add("general.name", "str", "Some name")
    for key, value in listing.model_info(model, verbose=True).items():
        if isinstance(value, list):
            kind = "str" if isinstance(value[0], str) else "i32"
            made.array(key, kind, value * 2000)
        elif key != "general.parameter_count":      # a server counts it
            made.add(key, "str" if isinstance(value, str) else "f64" if isinstance(value, float) else "u32", value)
    made.add("tokenizer.chat_template", "str", "{{ messages }}")
    weights = model.weights.parameters
    return made.tensor("all", (weights, 1), 30).bytes()


def test_the_same_models(seen: tuple[dict[str, Model], dict[str, Model]]) -> None:
    running, stopped = seen
    assert set(running) == set(stopped) == {"llama3.1:8b", "qwen3:0.6b", "nomic-embed-text:latest", *NAMES}


@pytest.mark.parametrize("name", [*defaults(), *NAMES])
@pytest.mark.parametrize("field", [one.name for one in fields(Model) if one.name not in APART])
def test_every_field_is_the_same(seen: tuple[dict[str, Model], dict[str, Model]], name: str, field: str) -> None:
    name = name if ":" in name else f"{name}:latest"
    there, here = (getattr(side[name], field) for side in seen)
    if field == "size":     # the stand-in tells the weights alone, an Ollama all layers and the configuration
        assert there <= here < there + 10_000
    elif field == "capabilities":
        assert set(there) == set(here)
    else:
        assert there == here


@pytest.mark.parametrize("name", ["llama3.1:8b", "qwen3:0.6b", "nomic-embed-text:latest", *NAMES])
def test_what_a_plan_makes_of_it_is_the_same(seen: tuple[dict[str, Model], dict[str, Model]], name: str) -> None:
    there, here = (side[name] for side in seen)
    assert weights_of(there) == weights_of(here)
    assert installed(there) == installed(here)
    assert from_gguf(there.architecture) == from_gguf(here.architecture)
    assert there.kind == here.kind


@pytest.mark.parametrize("name", ["llama3.1:8b", "qwen3:0.6b", "nomic-embed-text:latest", *NAMES])
def test_what_is_apart_says_the_same(seen: tuple[dict[str, Model], dict[str, Model]], name: str) -> None:
    there, here = (side[name] for side in seen)
    assert shown(there) == shown(here)
    assert moment(there) == moment(here)


def moment(model: Model) -> datetime:
    text = re.sub(r"\.(\d{6})\d*", r".\1", model.modified_at)
    return datetime.fromisoformat(text).replace(microsecond=0)


def shown(model: Model) -> dict[str, Any]:
    told = json.loads(json.dumps(model.details))
    told["modelfile"] = re.sub(r"\S*/sha256-", "sha256-", told["modelfile"])
    return {key: value for key, value in told.items() if key not in ("context_length", "embedding_length")}
