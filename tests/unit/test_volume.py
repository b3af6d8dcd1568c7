"""The inventory of a stopped Ollama's folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from gguf_files import GgufFile, OllamaFolder

from orchestrator.errors import UsageError
from orchestrator.observe import volume

HOME = "registry.ollama.ai/library"
CONFIG = {"model_format": "gguf", "model_family": "llama", "model_type": "1.2B", "file_type": "Q4_K_M",
          "parser": "hermes"}  # fmt: skip
WEIGHTS = GgufFile().add("general.architecture", "str", "llama").add("llama.block_count", "u32", 16).bytes()
BERT = GgufFile().add("general.architecture", "str", "nomic-bert").add("nomic-bert.pooling_type", "u32", 1).bytes()


@pytest.mark.parametrize("inside", ["", "models", ".ollama/models", "root/.ollama/models", "_data/models"])
def test_every_field(tmp_path: Path, inside: str) -> None:
    folder = OllamaFolder(tmp_path / "v" / inside)
    layers = [("model", WEIGHTS), ("template", "{{ .Tools }}{{ .Thinking }}{{ .Suffix }}"), ("system", "Be brief."),
              ("params", {"num_ctx": 8192, "stop": ["x"]}), ("messages", [{"role": "user", "content": "hi"}]),
              ("projector", WEIGHTS), ("adapter", b"lora")]  # fmt: skip
    manifest = folder.model(f"{HOME}/a/1b", CONFIG, layers, model={"from": "parent:1b"})
    (one,), problems = volume.look(tmp_path / "v")
    assert not problems
    assert one.name == "a:1b"
    assert one.digest == hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert one.size == sum(layer["size"] for layer in json.loads(manifest.read_text())["layers"])
    assert (one.family, one.parameter_size, one.quantization, one.format) == ("llama", "1.2B", "Q4_K_M", "gguf")
    assert set(one.capabilities) == {"completion", "tools", "thinking", "insert", "vision"}
    assert (one.system, one.parameters) == ("Be brief.", {"num_ctx": 8192, "stop": ["x"]})
    assert one.messages == ({"role": "user", "content": "hi"},)
    assert one.architecture["llama.block_count"] == 16
    assert one.parent == "parent:1b"
    assert one.details == {"modelfile": "PARSER hermes", "adapter": True}


def test_names_embeddings_and_cloud(tmp_path: Path) -> None:
    folder = OllamaFolder(tmp_path)
    folder.model(f"{HOME}/nomic/latest", CONFIG, [("model", BERT)])
    folder.model("registry.ollama.ai/me/a/latest", CONFIG, [("model", WEIGHTS)])
    folder.model("hf.co/org/b/Q4", CONFIG, [("model", WEIGHTS)])
    folder.model(f"{HOME}/big/cloud", {"remote_host": "https://ollama.com:443"}, [])
    found = {one.name: one for one in volume.look(tmp_path)[0]}
    assert set(found) == {"nomic:latest", "me/a:latest", "hf.co/org/b:Q4", "big:cloud"}
    assert found["nomic:latest"].capabilities == ("embedding",)
    assert found["me/a:latest"].capabilities == ("completion",)
    assert found["big:cloud"].remote_host == "https://ollama.com:443"


@pytest.mark.parametrize("text", [
    "", "{", "[]", "null", '{"config": 1}', '{"config": {"digest": "sha256:../../etc/passwd"}}', "[" * 100_000,
    '{"config": {"digest": "sha256:' + "0" * 64 + '"}}', "\x00", '{"config": {"digest": ["x"]}}',
])  # fmt: skip
def test_the_others_are_read(tmp_path: Path, text: str) -> None:
    folder = OllamaFolder(tmp_path)
    folder.model(f"{HOME}/good/1", CONFIG, [("model", WEIGHTS)])
    broken = folder.model(f"{HOME}/bad/1", CONFIG, [])
    broken.write_text(text)
    models, (problem,) = volume.look(tmp_path)
    assert [one.name for one in models] == ["good:1"]
    assert str(broken) in problem


@pytest.mark.parametrize(("kind", "content"), [("model", b"no"), ("params", "{"), ("params", "[1]")])
def test_a_broken_layer_is_named(tmp_path: Path, kind: str, content: str | bytes) -> None:
    broken = OllamaFolder(tmp_path).model(f"{HOME}/a/1", CONFIG, [(kind, content)])
    _, problems = volume.look(tmp_path)
    assert len(problems) == 1
    assert str(broken) in problems[0]


def test_nothing_outside_is_read(tmp_path: Path) -> None:
    folder = OllamaFolder(tmp_path / "models")
    secret = tmp_path / "secret"
    secret.write_text("private")
    folder.model(f"{HOME}/a/1", CONFIG, [("system", "x")])
    blob = folder.root / "blobs" / f"sha256-{hashlib.sha256(b'x').hexdigest()}"
    blob.unlink()
    blob.symlink_to(secret)
    (one,), (problem,) = volume.look(tmp_path)
    assert one.system is None
    assert "outside" in problem


def test_no_models(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError) as caught:
            volume.look(path)
        assert caught.value.hint
