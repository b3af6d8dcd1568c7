"""The two LiteLLM files: one set of model names, right providers, no secret, and /v1 where vLLM is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.decide.litellm import DEV_FILE, PROD_FILE, litellm
from orchestrator.spec import parse_spec

SPEC = """
name: team
accelerator: cpu
gateway: {listen: "%s"}
engines:
  llama: {repo: meta-llama/Llama-3.1-8B-Instruct}
  local: {repo: /models/own}
  vectors: {repo: BAAI/bge-m3, task: embed}
routes:
  "llama3.1:8b": {engine: llama, names: [chat, "été: #1"]}
  own: {engine: local}
  bge-m3: {engine: vectors, kind: embedding}
  stays: {}
"""


def entries(listen: str = "127.0.0.1", **more: str) -> tuple[list[dict], list[dict]]:
    files = litellm(parse_spec(SPEC % listen), **more)
    return tuple(yaml.safe_load(files[name])["model_list"] for name in (DEV_FILE, PROD_FILE))


def test_both_files_have_the_same_names_and_nothing_that_stays() -> None:
    dev, prod = entries()
    names = [entry["model_name"] for entry in prod]
    assert [entry["model_name"] for entry in dev] == names == ["llama3.1:8b", "chat", "été: #1", "own", "bge-m3"]


def test_providers_and_addresses() -> None:
    dev, prod = ({one["model_name"]: one["litellm_params"] for one in side} for side in entries())
    assert dev["chat"] == {"model": "ollama_chat/llama3.1:8b", "api_base": "http://localhost:11434"}
    assert dev["bge-m3"]["model"] == "ollama/bge-m3"
    assert prod["chat"]["model"] == "openai/meta-llama/Llama-3.1-8B-Instruct"
    assert prod["own"]["model"] == "openai/own"
    assert {one["api_base"] for one in prod.values()} == {"http://127.0.0.1:11434/v1"}
    assert all(one["api_key"].startswith("os.environ/") for one in prod.values())


@pytest.mark.parametrize("given,base", [
    ("http://gpu:11434", "http://gpu:11434/v1"), ("http://gpu:11434/v1/", "http://gpu:11434/v1"),
])  # fmt: skip
def test_base_url_has_v1_once(given: str, base: str) -> None:
    assert entries(prod=given)[1][0]["litellm_params"]["api_base"] == base


@pytest.mark.parametrize("listen,host", [("0.0.0.0", "localhost"), ("::", "localhost"), ("fd00::1", "[fd00::1]")])
def test_the_gateways_own_address(listen: str, host: str) -> None:
    assert entries(listen)[1][0]["litellm_params"]["api_base"] == f"http://{host}:11434/v1"


def test_command_writes_and_never_over_an_edited_file(tmp_path: Path) -> None:
    spec = tmp_path / "team" / "migrate.yaml"
    spec.parent.mkdir()
    spec.write_text(SPEC % "127.0.0.1", encoding="utf-8")
    call = ["export", "litellm", "--file", str(spec), "--out", str(tmp_path / "new" / "out")]
    for _ in range(2):
        result = CliRunner().invoke(app, call)
        assert result.exit_code == 0, result.output
    (tmp_path / "new" / "out" / DEV_FILE).write_text("mine", encoding="utf-8")
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 2
    assert (tmp_path / "new" / "out" / DEV_FILE).read_text(encoding="utf-8") == "mine"
    assert CliRunner().invoke(app, ["export", "haproxy", "--file", str(spec)]).exit_code == 2
