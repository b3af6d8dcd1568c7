"""What `migrate export litellm` writes, loaded by the real LiteLLM: one model name, answers from both files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.decide.litellm import DEV_FILE, KEY, PROD_FILE

REPO = "meta-llama/Llama-3.1-8B-Instruct"
SPEC = f"""
name: team
accelerator: cpu
engines:
  llama: {{repo: {REPO}}}
  vectors: {{repo: nomic-ai/nomic-embed-text-v1.5, task: embed}}
routes:
  "llama3.1:8b": {{engine: llama, names: [chat, "été: #1"]}}
  nomic-embed-text: {{engine: vectors, kind: embedding}}
"""
NAMES = ["llama3.1:8b", "chat", "été: #1", "nomic-embed-text"]
# It would fetch a price list and a tokenizer.
QUIET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "HF_HUB_OFFLINE": "1"}


@pytest.fixture
def exported(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Return the files that the command writes for a gateway at the given address."""

    def write(url: str) -> dict[str, str]:
        spec = tmp_path / "team" / "migrate.yaml"
        spec.parent.mkdir()
        spec.write_text(SPEC, encoding="utf-8")
        out = tmp_path / "out"
        call = ["export", "litellm", "--file", str(spec), "--out", str(out), "--base-url", url]
        result = CliRunner().invoke(app, call)
        assert result.exit_code == 0, result.output
        return {name: (out / name).read_text(encoding="utf-8") for name in (DEV_FILE, PROD_FILE)}

    return write


def test_development_is_answered_by_ollama(
    exported: Callable[[str], dict[str, str]], drive: Callable[..., Any], servers: Any, started: Callable[[Any], Any],
    tmp_path: Path,
) -> None:
    ollama = started(servers.ollama(tmp_path / "models"))
    text = exported("http://127.0.0.1:9/v1")[DEV_FILE]
    assert text.count("http://localhost:11434") == len(NAMES)
    asks = [("chat", "llama3.1:8b", "hello"), ("stream", "chat", "hello"), ("async", "été: #1", "hello"),
            ("tools", "chat", "hello"), ("embed", "nomic-embed-text", "hello")]  # fmt: skip
    told = drive("litellm", {"config": text.replace("http://localhost:11434", ollama.url), "asks": asks}, **QUIET)
    check(told)


def test_production_is_answered_by_vllm(
    exported: Callable[[str], dict[str, str]], drive: Callable[..., Any], servers: Any, started: Callable[[Any], Any],
) -> None:
    chat = started(servers.vllm(REPO, "--enable-auto-tool-choice", "--tool-call-parser", "llama3_json"))
    pool = started(servers.vllm("nomic-ai/nomic-embed-text-v1.5", "--runner", "pooling"))
    text = exported(f"{chat.url}/v1")[PROD_FILE]
    *chats, vectors = text.split("- model_name: nomic-embed-text")     # the gateway tells them apart by the name
    assert chats
    config = f"{chats[0]}- model_name: nomic-embed-text{vectors.replace(chat.url, pool.url)}"
    asks = [("chat", "llama3.1:8b", "hello"), ("stream", "chat", "hello"), ("async", "été: #1", "hello"),
            ("tools", "chat", "hello"), ("embed", "nomic-embed-text", "hello")]  # fmt: skip
    check(drive("litellm", {"config": config, "asks": asks}, **QUIET, **{KEY: "any-text"}))


def check(told: dict[str, Any]) -> None:
    assert sorted(told["names"]) == sorted(NAMES)
    assert not [one for one in told["answers"] if "error" in one]
    chat, stream, other, tools, vectors = told["answers"]
    assert chat["text"]
    assert chat["usage"] > 0
    assert stream["text"]
    assert stream["parts"] > 2
    assert other["text"]
    assert tools == {"role": "assistant"}
    assert len(vectors["vectors"]) == 2
    assert vectors["vectors"][0] > 1
