"""The inventory of a stopped Ollama's folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from gguf_files import GgufFile, OllamaFolder

from orchestrator.decide.dimensions import installed
from orchestrator.decide.shared import weights_of
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
    told = json.loads(manifest.read_text())
    assert one.size == sum(layer["size"] for layer in (*told["layers"], told["config"]))
    assert (one.family, one.parameter_size, one.quantization, one.format) == ("llama", "1.2B", "Q4_K_M", "gguf")
    assert set(one.capabilities) == {"completion", "tools", "thinking", "insert", "vision"}
    assert (one.system, one.parameters) == ("Be brief.", {"num_ctx": 8192, "stop": ["x"]})
    assert one.messages == ({"role": "user", "content": "hi"},)
    assert one.architecture["llama.block_count"] == 16
    assert one.parent == "parent:1b"
    weights, lora = (hashlib.sha256(data).hexdigest() for data in (WEIGHTS, b"lora"))
    blobs = (tmp_path / "v" / inside / "blobs").resolve()
    assert one.details["adapter"] is True
    assert one.details["modelfile"].splitlines() == [
        f"FROM {blobs}/sha256-{weights}", f"ADAPTER {blobs}/sha256-{lora}", "PARSER hermes"]  # fmt: skip
    assert weights_of(one) == weights


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
    broken = OllamaFolder(tmp_path).model(f"{HOME}/a/1", CONFIG, [(kind, content), ("model", WEIGHTS)])
    _, problems = volume.look(tmp_path)
    assert len(problems) == 1
    assert str(broken) in problems[0]


def test_nothing_outside_is_read(tmp_path: Path) -> None:
    folder = OllamaFolder(tmp_path / "models")
    secret = tmp_path / "secret"
    secret.write_text("private")
    folder.model(f"{HOME}/a/1", CONFIG, [("system", "x"), ("model", WEIGHTS)])
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


def test_names_on_one_blob_are_known_as_one(tmp_path: Path) -> None:
    folder = OllamaFolder(tmp_path)
    for name in ("a/1", "b/latest"):
        folder.model(f"{HOME}/{name}", CONFIG, [("model", WEIGHTS), ("system", name)])
    one, two = volume.look(tmp_path)[0]
    assert one.digest != two.digest
    assert weights_of(one) == weights_of(two) == hashlib.sha256(WEIGHTS).hexdigest()


def safetensors(meta: dict[str, str]) -> bytes:
    header = json.dumps({"__metadata__": meta, "w": {"dtype": "U32", "shape": [4, 2], "data_offsets": [0, 32]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(32)


@pytest.mark.parametrize("nested", [False, True])
def test_a_model_of_safetensors(tmp_path: Path, nested: bool) -> None:
    """Hundreds of blobs, a config.json, and no GGUF file: what /api/show makes of it (x/server/show.go)."""
    folder = OllamaFolder(tmp_path)
    numbers = {"hidden_size": 2048, "num_hidden_layers": 28, "max_position_embeddings": 40960}
    config = {"model_type": "qwen3", "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 151936,
              "intermediate_size": 6144, "torch_dtype": "bfloat16",
              **({"text_config": numbers} if nested else numbers)}  # fmt: skip
    path = folder.model(f"{HOME}/q/mlx", {"model_format": "safetensors", "capabilities": ["completion", "tools"]}, [
        ("tensor", safetensors({"quant_type": "nvfp4"})), ("json", config), ("json", {"eos": 1})], json={"name": "config.json"})  # fmt: skip
    told = json.loads(path.read_text())
    for number, layer in enumerate(one for one in told["layers"] if one["mediaType"].endswith("json")):
        layer["name"] = ("config.json", "tokenizer_config.json")[number]
    told["layers"][0]["size"] = 3_400_000_150
    told["layers"][0]["mediaType"] += "; name=w; dtype=U32"
    path.write_text(json.dumps(told))
    (one,), problems = volume.look(tmp_path)
    assert not problems
    assert (one.format, one.quantization, one.capabilities) == ("safetensors", "NVFP4", ("completion", "tools"))
    assert one.architecture == {
        "general.architecture": "qwen3", "qwen3.context_length": 40960, "qwen3.embedding_length": 2048,
        "qwen3.block_count": 28, "qwen3.attention.head_count": 16, "qwen3.attention.head_count_kv": 8,
        "qwen3.feed_forward_length": 6144, "qwen3.vocab_size": 151936, "general.parameter_count": 1_700_000_000,
    }  # fmt: skip
    assert installed(one).layers == 28


def test_weights_that_are_split_count_together(tmp_path: Path) -> None:
    def part(number: int) -> bytes:
        made = GgufFile().add("general.architecture", "str", "llama").add("split.no", "u32", number)
        return made.add("general.name", "str", "x").tensor(f"t{number}", (256, 4), 12).bytes()

    OllamaFolder(tmp_path).model(f"{HOME}/a/1", CONFIG, [("model", part(0)), ("model", part(1))])
    (one,), _ = volume.look(tmp_path)
    assert one.architecture["general.parameter_count"] == 2 * 1024
    assert "general.name" not in one.architecture


def test_names_of_blobs_in_old_stores(tmp_path: Path) -> None:
    folder = OllamaFolder(tmp_path)
    folder.model(f"{HOME}/a/1", CONFIG, [("model", WEIGHTS)])
    for blob in (tmp_path / "blobs").iterdir():
        blob.rename(blob.with_name(blob.name.replace("-", ":")))
    (one,), problems = volume.look(tmp_path)
    assert (one.architecture["llama.block_count"], problems) == (16, ())


@pytest.mark.parametrize("cut", [0, 20, -1])
def test_a_download_that_is_not_complete_is_told(tmp_path: Path, cut: int) -> None:
    manifest = OllamaFolder(tmp_path).model(f"{HOME}/a/1", CONFIG, [("model", WEIGHTS + bytes(100))])
    blob = tmp_path / "blobs" / f"sha256-{hashlib.sha256(WEIGHTS + bytes(100)).hexdigest()}"
    if cut:
        blob.write_bytes((WEIGHTS + bytes(100))[:cut])
    else:
        blob.rename(f"{blob}-partial")
    (one,), (problem,) = volume.look(tmp_path)
    assert one.name == "a:1"
    assert str(manifest) in problem
    assert str(blob) in problem


def test_a_model_without_weights_is_told(tmp_path: Path) -> None:
    OllamaFolder(tmp_path).model(f"{HOME}/a/1", CONFIG, [("system", "x")])
    (one,), (problem,) = volume.look(tmp_path)
    assert one.system == "x"
    assert "names no weights" in problem


@pytest.mark.parametrize(("tag", "config"), [
    ("cloud", {}), ("671b-cloud", {}), ("x", {"remote_model": "big"}), ("x", {"remote_host": "https://ollama.com:443"}),
])  # fmt: skip
def test_what_runs_elsewhere_is_listed_and_left_alone(tmp_path: Path, tag: str, config: dict[str, str]) -> None:
    OllamaFolder(tmp_path).model(f"{HOME}/big/{tag}", config, [("template", "x")])
    (one,), problems = volume.look(tmp_path)
    assert (one.remote_host, one.name, problems) == ("https://ollama.com:443", f"big:{tag}", ())


def test_weights_under_a_name_of_the_cloud_are_here(tmp_path: Path) -> None:
    OllamaFolder(tmp_path).model(f"{HOME}/big/cloud", CONFIG, [("model", WEIGHTS)])
    assert volume.look(tmp_path)[0][0].remote_host is None


def test_blobs_on_another_disk(tmp_path: Path) -> None:
    """The folder of the blobs may be a link; a manifest that is gone in the meantime is told."""
    OllamaFolder(tmp_path / "models").model(f"{HOME}/a/1", CONFIG, [("model", WEIGHTS)])
    (tmp_path / "models" / "blobs").rename(tmp_path / "disk")
    (tmp_path / "models" / "blobs").symlink_to(tmp_path / "disk")
    gone = tmp_path / "models" / "manifests" / HOME / "a" / "2"
    gone.symlink_to(tmp_path / "nowhere")
    (one,), (problem,) = volume.look(tmp_path / "models")
    assert one.architecture["llama.block_count"] == 16
    assert str(gone) in problem


@pytest.mark.parametrize(("path", "name"), [
    ("registry.ollama.ai/library/a/latest", "a:latest"), ("registry.ollama.ai/me/a/latest", "me/a:latest"),
    ("hf.co/org/repo-GGUF/Q4_K_M", "hf.co/org/repo-GGUF:Q4_K_M"), ("huggingface.co/o/r/x", "huggingface.co/o/r:x"),
    ("localhost:5000/team/a/v1", "localhost:5000/team/a:v1"),
])  # fmt: skip
def test_names_with_a_registry(tmp_path: Path, path: str, name: str) -> None:
    OllamaFolder(tmp_path).model(path, CONFIG, [("model", WEIGHTS)])
    (tmp_path / "manifests" / "too" / "deep" / "for" / "a" / "name").mkdir(parents=True)
    assert [one.name for one in volume.look(tmp_path)[0]] == [name]


def test_capabilities_of_the_files_own_template(tmp_path: Path) -> None:
    chat = "{% if tools %}{{ tools }}{% endif %}{% if enable_thinking %}<think>{% endif %}"
    weights = GgufFile().add("general.architecture", "str", "qwen3").add("tokenizer.chat_template", "str", chat).bytes()
    folder = OllamaFolder(tmp_path)
    folder.model(f"{HOME}/a/1", {}, [("model", weights)])
    folder.model(f"{HOME}/b/1", {}, [("model", weights), ("template", "{{ .Prompt }}")])
    one, other = volume.look(tmp_path)[0]
    assert set(one.capabilities) == {"completion", "tools", "thinking"}
    assert (other.capabilities, one.template) == (("completion",), "{{ .Prompt }}")
    assert "tokenizer.chat_template" not in one.architecture


def test_the_largest_header_is_read_in_bounded_memory(tmp_path: Path) -> None:
    """A vocabulary of 262,144 words and their merges, in front of 4 GiB that are never read."""
    import tracemalloc

    made = GgufFile(order=">").add("general.architecture", "str", "gemma3")
    made.array("tokenizer.ggml.tokens", "str", ["a word"] * 262_144).array("tokenizer.ggml.scores", "f32", [0.0] * 262_144)
    made.add("gemma3.block_count", "u32", 34)
    manifest = OllamaFolder(tmp_path).model(f"{HOME}/a/1", CONFIG, [("model", made.bytes())])
    told = json.loads(manifest.read_text())
    told["layers"][0]["size"] = 4 * 2**30
    manifest.write_text(json.dumps(told))
    with (tmp_path / "blobs" / told["layers"][0]["digest"].replace(":", "-")).open("r+b") as blob:
        blob.truncate(4 * 2**30)
    tracemalloc.start()
    (one,), problems = volume.look(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not problems
    assert one.architecture["gemma3.block_count"] == 34
    assert peak < 32 * 2**20


def test_blobs_that_may_not_be_read_are_told_and_the_rest_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = OllamaFolder(tmp_path)
    folder.model(f"{HOME}/a/1", CONFIG, [("model", WEIGHTS), ("system", "x")])
    folder.model(f"{HOME}/b/1", CONFIG, [("model", BERT)])
    private, opened = hashlib.sha256(WEIGHTS).hexdigest(), Path.open

    def guarded(self: Path, *given: object, **more: object) -> object:
        if private in self.name:
            raise PermissionError(13, "Permission denied")
        return opened(self, *given, **more)

    monkeypatch.setattr(Path, "open", guarded)
    (one, other), (problem,) = volume.look(tmp_path)
    assert (one.system, one.family, one.architecture) == ("x", "llama", {})
    assert other.capabilities == ("embedding",)
    assert "Permission denied" in problem
