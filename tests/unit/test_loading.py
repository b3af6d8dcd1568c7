"""16-bit weights that are quantised on load take more for a while; what cannot get through it is refused."""

from __future__ import annotations

import dataclasses

import pytest
from decide_cases import facts

from orchestrator.decide.budget import proof
from orchestrator.decide.catalog import Numbers, load
from orchestrator.decide.loading import download_bytes, loading_bytes, made_on_load
from orchestrator.decide.propose import propose
from orchestrator.decide.vram import GIB, Ask
from orchestrator.spec import parse_spec

NUMBERS = Numbers(params_b=8.0, layers=32, heads=32, kv_heads=8, head_dim=128, hidden=4096, vocab=128256, kv_token=131072)


def _problems(gpu: str, flag: str, repo: str = "mistralai/mathstral-7B-v0.1", utilization: float = 0.6):
    spec = parse_spec(f"""
version: 1
name: case
ollama: {{gpus: ["0"]}}
engines: {{math: {{repo: {repo}, gpus: ["0"], quantization: {flag}, max_model_len: 4096, kv_cache: 1GiB,
           gpu_memory_utilization: {utilization}}}}}
routes: {{"mathstral:7b": {{engine: math}}}}
""")
    return proof(spec, facts({"gpus": [gpu], "models": [{"name": "mathstral:7b", "size": 1}]}), load()).problems


def test_fp8_needs_two_layers_more_and_others_the_whole_16_bit() -> None:
    ask = Ask("x", NUMBERS, scheme="fp8")
    wide = dataclasses.replace(ask, scheme="bf16").weights()
    assert loading_bytes(ask, "") == ask.weights()
    assert loading_bytes(ask, "fp8") - ask.weights() == pytest.approx(2 * wide / 32, abs=2)
    assert loading_bytes(dataclasses.replace(ask, scheme="int8"), "int8_per_channel_weight_only") == wide
    assert loading_bytes(dataclasses.replace(ask, numbers=dataclasses.replace(NUMBERS, layers=None)), "fp8") <= wide


def test_a_file_whose_engine_cannot_get_through_its_load_is_refused_with_numbers() -> None:
    assert _problems("16GiB cc8.9", "fp8", utilization=0.75) == []
    told = _problems("14GiB cc7.5", "int8_per_channel_weight_only", utilization=0.8)
    assert len(told) == 1
    assert "made int8_per_channel_weight_only on load take up to 13." in told[0]
    assert "GPU 0 has room for" in told[0]


def test_weights_that_are_published_quantised_load_as_they_are() -> None:
    repo = "RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8-dynamic"
    assert not any("on load" in one for one in _problems("12GiB cc8.9", "fp8", repo, 0.85))


def test_a_load_that_the_proposal_chose_never_fails_its_own_proof() -> None:
    for gpu in ("16GiB cc8.9", "18GiB cc7.5", "20GiB cc8.6", "24GiB cc7.5"):
        for size in (1, 4 * GIB):
            found = facts({"gpus": [gpu], "models": [{"name": "mathstral:7b", "size": size}]})
            assert propose("case", found).proof.problems == []


def test_what_is_made_on_load_is_fetched_at_16_bit() -> None:
    seen = facts({"gpus": ["24GiB cc8.6"], "models": [{"name": "mathstral:7b", "size": 4_432_000_000}],
                  "env": {"OLLAMA_CONTEXT_LENGTH": "16384"}})  # fmt: skip
    found = propose("case", seen)
    engine = found.spec.engines["mathstral-7b"]
    share = found.proof.budgets[0].shares[0]
    assert engine.quantization == "fp8"
    assert made_on_load(engine, load())
    assert download_bytes(share, engine, load()) == pytest.approx(7.25e9 * 2, rel=0.03)
    assert share.weights < 8e9
    plain = engine.model_copy(update={"quantization": None})
    assert not made_on_load(plain, load())
    assert download_bytes(share, plain, load()) == share.weights
