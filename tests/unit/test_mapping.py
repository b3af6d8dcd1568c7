from __future__ import annotations

from pathlib import Path

import pytest
from decide_cases import cases, model, read

from orchestrator.decide.catalog import load
from orchestrator.decide.mapping import gguf_numbers, map_model
from orchestrator.facts import Model


@pytest.mark.parametrize("path", cases("mapping"), ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    case = read(path)
    found = map_model(model(case["model"]), load(), case.get("given"))
    expect = dict(case["expect"])
    for words in expect.pop("reasons", []):
        assert words in "; ".join(found.reasons)
    for repo in expect.pop("candidates", []):
        assert repo in found.candidates
    assert {key: getattr(found, key) for key in expect} == expect
    assert found.stays == (found.repo is None)
    assert found.reasons, "every mapping says why"


@pytest.mark.parametrize(
    "entry", [e for e in load().entries if e.numbers.layers], ids=lambda entry: f"{entry.name}:{entry.tags[0]}"
)
def test_a_changed_dimension_is_never_mapped_to_the_same_repository(entry) -> None:
    info = {"general.architecture": "x", "x.block_count": entry.numbers.layers + 1}
    found = map_model(Model(f"{entry.name}:{entry.tags[0]}", architecture=info), load())
    assert found.repo != entry.repo


def test_numbers_of_grouped_query_attention() -> None:
    info = {
        "general.architecture": "llama", "general.parameter_count": 8_030_261_312, "llama.block_count": 32,
        "llama.embedding_length": 4096, "llama.attention.head_count": 32, "llama.attention.head_count_kv": 8,
    }  # fmt: skip
    found = gguf_numbers(info)
    assert found.kv_token == 128 * 1024
    assert found.head_dim == 128
    assert found.params_b == pytest.approx(8.03, abs=0.01)


def test_numbers_of_latent_attention_match_the_catalogue() -> None:
    info = {
        "general.architecture": "deepseek2", "deepseek2.block_count": 27, "deepseek2.embedding_length": 2048,
        "deepseek2.attention.kv_lora_rank": 512, "deepseek2.rope.dimension_count": 64,
    }  # fmt: skip
    entry = load().named("deepseek-v2")[0]
    assert gguf_numbers(info).kv_token == entry.numbers.kv_token


def test_nulled_arrays_and_missing_keys_are_no_numbers() -> None:
    found = gguf_numbers({"general.architecture": "lfm2", "lfm2.attention.head_count_kv": None, "lfm2.block_count": 40})
    assert (found.layers, found.kv_heads, found.kv_token) == (40, None, None)
    assert gguf_numbers({}).layers is None
