from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.decide.catalog import Numbers, load
from orchestrator.decide.vram import GIB, MIB, SPARE, Ask, GpuBudget, fit, ollama_footprint, others_on, share_of
from orchestrator.facts import Gpu, Loaded, Model

LLAMA = load().named("llama3.1")[0].numbers
ASK = Ask("llama", LLAMA)


@pytest.mark.parametrize(
    ("scheme", "real"),
    [("bf16", 16_060_522_496), ("fp8-dynamic", 9_081_000_000), ("w4a16", 5_740_000_000)],
    ids=["as published", "8 bit", "4 bit"],
)
def test_weights_are_near_the_real_files_and_not_below(scheme: str, real: int) -> None:
    """Sizes of the safetensors files of Llama 3.1 8B Instruct and its RedHatAI quantisations."""
    estimate = replace(ASK, scheme=scheme).weights()
    assert real <= estimate <= real * 1.04


def test_cache_is_what_vllm_reports() -> None:
    """vLLM 0.32: 4 layers, 2 KV heads of 64 at 16 bit give 524,288 tokens per GiB; Llama 3.1 8B 128 KiB a token."""
    tiny = Ask("tiny", Numbers(kv_token=4 * 4 * 2 * 64, kv_heads=2))
    assert GIB / tiny.kv_token() == 524_288
    assert ASK.kv_token() == 128 * 1024
    assert ASK.one_sequence() == GIB + 16 * 128 * 1024


def test_tensor_parallel_splits_weights_and_heads_but_not_latent_vectors() -> None:
    two, sixteen = replace(ASK, tensor_parallel=2), replace(ASK, tensor_parallel=16)
    assert two.kv_token() * 2 == ASK.kv_token()
    assert sixteen.kv_token() * 8 == ASK.kv_token(), "each rank keeps at least one head"
    assert ASK.weights() / 2 < two.weights() < ASK.weights() * 0.53
    latent = Ask("mla", Numbers(kv_token=70_272, kv_heads=128, mla=True), tensor_parallel=8)
    assert latent.kv_token() == 70_272


def test_eight_bit_cache_halves_and_eager_saves_the_graphs() -> None:
    assert replace(ASK, kv_dtype="fp8").kv_token() * 2 == ASK.kv_token()
    assert replace(ASK, eager=True).graphs() == 0 < ASK.graphs()


@given(
    total=st.integers(8 * GIB, 180 * GIB),
    taken=st.integers(0, 60 * GIB),
    scheme=st.sampled_from(["bf16", "fp8", "w4a16"]),
    length=st.sampled_from([2048, 8192, 32768]),
    seqs=st.integers(1, 64),
)
def test_a_share_always_passes_vllms_start_check(total: int, taken: int, scheme: str, length: int, seqs: int) -> None:
    ask = replace(ASK, scheme=scheme, max_model_len=length, max_num_seqs=seqs)
    room = total - taken - SPARE
    share = fit(ask, total, room)
    if share is None:
        fixed = ask.weights() + ask.activations(total) + ask.graphs() + ask.context()
        assert fixed + ask.one_sequence() + 512 * MIB + total // 1000 > min(room, total * 0.95)
        return
    assert share.requested == math.ceil(total * share.utilization)
    assert share.requested + ask.context() <= room + 1
    assert share.weights + share.kv + share.activations + share.graphs <= share.requested
    assert share.sequences >= 1
    budget = GpuBudget("0", total, ollama=taken, shares=(share,))
    assert budget.left >= SPARE - 1


def test_the_inequality_adds_up_and_says_its_numbers() -> None:
    share = share_of(ASK, 40 * GIB, 4 * GIB, 0.6)
    budget = GpuBudget("0", 40 * GIB, ollama=6 * GIB, shares=(share,))
    assert budget.left == 40 * GIB - 6 * GIB - 24 * GIB - ASK.context()
    assert str(budget).startswith("GPU 0: 40.0 GiB = Ollama 6.0 GiB + vLLM llama 24.0 GiB (weights 15.1 GiB, KV 4.0 GiB")
    assert not budget.problem


@pytest.mark.parametrize(
    ("kv", "utilization", "ollama", "words"),
    [
        (GIB // 2, 0.6, 0, "holds no request of 8192 tokens"),
        (4 * GIB, 0.45, 0, "its utilisation allows 18.0 GiB"),
        (4 * GIB, 0.97, 0, "97.0% of the GPU"),
        (4 * GIB, 0.6, 15 * GIB, "must stay free"),
    ],
    ids=["cache too small", "utilisation too small", "utilisation too large", "Ollama too large"],
)
def test_what_cannot_start_is_refused_with_numbers(kv: int, utilization: float, ollama: int, words: str) -> None:
    budget = GpuBudget("0", 40 * GIB, ollama=ollama, shares=(share_of(ASK, 40 * GIB, kv, utilization),))
    assert words in budget.problem
    assert "does not fit" in str(budget)


def test_ollamas_footprint_is_measured_where_it_is_loaded_the_same_way() -> None:
    model = Model("llama3.1:8b", size=4_920_753_328)
    loaded = Loaded("llama3.1:8b", 6 * GIB, 6 * GIB, 8192)
    measured = ollama_footprint(model, LLAMA, 8192, 1, loaded)
    estimated = ollama_footprint(model, LLAMA, 8192, 1)
    longer = ollama_footprint(model, LLAMA, 16384, 1, loaded)
    parallel = ollama_footprint(model, LLAMA, 8192, 4, loaded)
    assert 6 * GIB < measured < 6.6 * GIB
    assert estimated - model.size > GIB, "a cache of 8192 tokens is 1 GiB"
    assert longer - estimated == GIB
    assert parallel - estimated == 3 * GIB
    spilled = Loaded("llama3.1:8b", 6 * GIB, 3 * GIB, 8192)
    assert ollama_footprint(model, LLAMA, 8192, 1, spilled) == estimated


def test_memory_of_others_is_what_ollama_does_not_explain() -> None:
    def gpu(index: str, used: int) -> Gpu:
        return Gpu(index, index, "x", 24 * GIB, 24 * GIB - used, 8.9)

    loaded = (Loaded("m", 6 * GIB, 6 * GIB, 8192),)
    assert others_on((gpu("0", 6 * GIB + 512 * MIB),), loaded) == {"0": 0}
    assert others_on((gpu("0", 9 * GIB), gpu("1", GIB)), loaded) == {"0": 2 * GIB + 512 * MIB, "1": GIB}
    assert others_on((gpu("0", 2 * GIB),), ()) == {"0": 2 * GIB}
