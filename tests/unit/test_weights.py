"""Weights against the sizes of the real files: total_size of model.safetensors.index.json of each repository."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.decide.catalog import Numbers, load
from orchestrator.decide.dimensions import installed
from orchestrator.decide.engine_memory import Ask
from orchestrator.decide.weights import attention, stored
from orchestrator.facts import Model

CATALOG = load()
FILES = {
    "meta-llama/Llama-3.1-8B-Instruct": 16_060_522_496, "meta-llama/Llama-3.2-3B-Instruct": 6_425_499_648,
    "meta-llama/Llama-3.3-70B-Instruct": 141_107_412_992, "Qwen/Qwen2.5-7B-Instruct": 15_231_233_024,
    "Qwen/Qwen3-8B": 16_381_470_720, "Qwen/Qwen3-30B-A3B": 61_064_245_248, "google/gemma-2-9b-it": 18_483_411_968,
    "google/gemma-3-4b-it": 8_600_158_944, "mistralai/Mistral-7B-Instruct-v0.3": 14_496_047_104,
    "mistralai/Mixtral-8x7B-Instruct-v0.1": 93_405_585_408, "microsoft/Phi-3-mini-4k-instruct": 7_642_159_104,
    "openai/gpt-oss-20b": 13_761_264_768, "openai/gpt-oss-120b": 65_248_815_744, "Qwen/Qwen3.5-0.8B": 1_746_882_752,
    "Qwen/Qwen3.5-2B": 4_548_144_832, "Qwen/Qwen3.5-4B": 9_319_737_856, "Qwen/Qwen3.5-9B": 19_306_216_416,
    "Qwen/Qwen3.5-27B": 55_562_872_800, "Qwen/Qwen3.5-35B-A3B": 71_903_655_008,
    "Qwen/Qwen3.5-122B-A10B": 250_173_007_840,
}  # fmt: skip


def _ask(repo: str) -> Ask:
    found = CATALOG.by_repo(repo)
    assert found is not None
    return Ask(repo, found[0].numbers, found[1])


@pytest.mark.parametrize("repo", FILES)
def test_weights_are_within_two_percent_and_the_bad_end_is_not_below(repo: str) -> None:
    range_of = _ask(repo).weights_range()
    assert range_of.low == pytest.approx(FILES[repo], rel=0.02)
    assert range_of.high >= FILES[repo]


def test_files_that_were_seen_are_the_weights() -> None:
    ask = replace(_ask("Qwen/Qwen3-8B"), files=16_000_000_000)
    assert ask.weights_range().low == pytest.approx(16e9, rel=1e-6)
    assert replace(ask, tensor_parallel=2).weights() == pytest.approx(8.24e9, rel=1e-3)


def test_tied_embeddings_are_counted_once() -> None:
    tied, apart = (_ask(repo).numbers for repo in ("meta-llama/Llama-3.2-3B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"))
    assert (tied.tied, apart.tied) == (True, False)
    assert stored(replace(apart, tied=True), "int4") < stored(apart, "int4")
    assert stored(apart, "bf16") == stored(replace(apart, tied=True), "bf16")


def test_attention_of_a_model_whose_experts_alone_are_quantised() -> None:
    numbers = Numbers(params_b=20.9, layers=24, heads=64, kv_heads=8, head_dim=64, hidden=2880, vocab=201088, experts=32)
    assert attention(numbers) == 24 * 2 * 2880 * 64 * 72
    assert stored(numbers, "mxfp4") > stored(replace(numbers, experts=None), "mxfp4")
    assert attention(Numbers(layers=3)) == 0


@pytest.mark.parametrize(
    ("told", "params"),
    [("8.0B", 8.0), ("494.03M", 0.49403), ("1.5T", 1500.0), ("7b", 7.0), ("", None), ("0B", None), ("large", None),
     ("1e5B", None), ("٣B", 3.0)],
)  # fmt: skip
def test_the_size_in_words_where_the_count_is_missing(told: str, params: float | None) -> None:
    assert installed(Model("m", parameter_size=told)).params_b == (params and pytest.approx(params))


def test_a_projector_in_a_file_of_its_own_is_counted() -> None:
    info = {"general.architecture": "llama", "general.parameter_count": 7_000_000_000}
    seen = installed(Model("m", architecture=info, capabilities=("completion", "vision")))
    assert (seen.vision, seen.params_b) == (True, pytest.approx(7.64))
    inside = installed(Model("m", architecture=info | {"llama.vision.block_count": 27}, capabilities=("vision",)))
    assert inside.params_b == 7.0
