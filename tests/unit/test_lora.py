from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.clients.hub import Hub
from orchestrator.decide.catalog import Numbers, load
from orchestrator.decide.lora import Adapter, adapter, arguments, base_problem, lora_bytes, vram
from orchestrator.errors import UsageError
from orchestrator.observe import adapter as observed

LLAMA = load().named("llama3.1")[0].numbers
CONFIG = {"peft_type": "LORA", "r": 16, "target_modules": ["q_proj", "v_proj"], "bias": "none",
          "base_model_name_or_path": "meta-llama/Llama-3.1-8B-Instruct"}  # fmt: skip


def test_bytes_are_those_of_the_two_matrices() -> None:
    # r=16, q and v of 32 layers: A is r x in, B is out x r; PEFT saves 6,815,744 parameters for this base.
    assert lora_bytes(16, ("q_proj", "v_proj"), LLAMA) == 2 * 6_815_744
    # All seven linear layers: 41,943,040 parameters, as PEFT prints them.
    every = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert lora_bytes(16, every, LLAMA) == 2 * 41_943_040 == vram(16, LLAMA)
    assert vram(16, LLAMA, 4) == 8 * 41_943_040


def test_fused_layers_count_as_their_parts() -> None:
    assert lora_bytes(8, ("qkv_proj", "gate_up_proj"), LLAMA) == lora_bytes(
        8, ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"), LLAMA
    )


def test_unknown_shapes_and_layers_have_no_size() -> None:
    assert lora_bytes(16, ("q_proj",), Numbers()) is None
    assert lora_bytes(16, ("something",), LLAMA) is None
    assert adapter("a", "x/y", CONFIG | {"target_modules": ["odd"]}, LLAMA, 77).bytes == 77


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"r": None}, "no rank"),
        ({"r": 1024}, "above vLLM's largest"),
        ({"r": True}, "no rank"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "biases"),
        ({"target_modules": None}, "no layer"),
        ({"target_modules": 7}, "no layer"),
    ],
)
def test_what_vllm_refuses(change: dict, words: str) -> None:
    assert words in "; ".join(adapter("a", "x/y", CONFIG | change, LLAMA).problems)


def test_rank_is_the_largest_and_rounded_up_to_what_vllm_takes() -> None:
    found = adapter("a", "x/y", CONFIG | {"r": 12, "rank_pattern": {"q_proj": 40}}, LLAMA)
    assert (found.rank, found.max_rank, found.problems) == (40, 64, ())


def test_target_modules_in_every_form() -> None:
    assert adapter("a", "x/y", CONFIG | {"target_modules": "all-linear"}, LLAMA).bytes == vram(16, LLAMA)
    assert adapter("a", "x/y", CONFIG | {"target_modules": r".*\.(q_proj|v_proj)$"}, LLAMA).modules == ("q_proj", "v_proj")
    assert adapter("a", "x/y", CONFIG | {"target_modules": ["model.layers.0.self_attn.q_proj"]}, LLAMA).modules == ("q_proj",)


def test_an_adapter_belongs_to_its_base() -> None:
    catalog = load()
    found = adapter("a", "x/y", CONFIG, LLAMA)
    for repo in ("meta-llama/Llama-3.1-8B-Instruct", "RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8"):
        assert base_problem(found, repo, catalog) == ""
    assert "other dimensions" in base_problem(found, "Qwen/Qwen2.5-7B-Instruct", catalog)
    assert "check" in base_problem(found, "acme/unknown", catalog)
    assert base_problem(Adapter("a", "x/y", "", 8, (), None), "acme/unknown", catalog) == ""


def test_arguments() -> None:
    one, two = adapter("a", "x/y", CONFIG, LLAMA), adapter("b", "/b", CONFIG | {"r": 33}, LLAMA)
    assert arguments((one, two), 2) == (
        "--enable-lora", "--max-lora-rank", "64", "--max-loras", "2", "--lora-modules", "a=x/y", "b=/b",
    )  # fmt: skip
    assert arguments(()) == ()


def test_a_directory_is_read(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"1234")
    found = observed.look("a", str(tmp_path), LLAMA)
    assert (found.rank, found.bytes) == (16, 2 * 6_815_744)
    assert observed.look("a", str(tmp_path), Numbers()).bytes == 4


def test_a_cached_repository_is_read_offline(tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "models--acme--lora" / "snapshots" / "1"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG))
    with Hub({"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}) as hub:
        assert observed.look("a", "acme/lora", LLAMA, hub).rank == 16
        with pytest.raises(UsageError, match=r"adapter_config\.json"):
            observed.look("a", "acme/none", LLAMA, hub)


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_what_is_no_configuration_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(UsageError, match="readable"):
        observed.look("a", str(tmp_path), LLAMA)
