from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.decide.catalog import load
from orchestrator.decide.confirm import config_scheme, confirm, confirmed, measured
from orchestrator.decide.engine_memory import Ask
from orchestrator.decide.hubfact import HubFact, trimmed
from orchestrator.decide.mapping import map_model
from orchestrator.decide.shaping import shape_for
from orchestrator.facts import Model

CATALOG = load()
CONFIG = {"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 32, "hidden_size": 4096,
          "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256}  # fmt: skip
LLAMA = Model("llama3.1:8b", architecture={
    "general.architecture": "llama", "llama.block_count": 32, "llama.embedding_length": 4096,
    "llama.attention.head_count": 32, "llama.attention.head_count_kv": 8,
})  # fmt: skip
REPO = "meta-llama/Llama-3.1-8B-Instruct"


def _confirmed(given: str | None = None, repo: str = REPO, state: str = "open", said: str = "open", **fact):
    return confirm(map_model(LLAMA, CATALOG, given), LLAMA, HubFact(repo, state, said, **fact), CATALOG)


def test_a_licence_that_was_accepted_stands_in_nobodys_way() -> None:
    found = _confirmed(state="gated, licence accepted", said="gated, licence accepted", config=CONFIG)
    assert (found.repo, found.gated, found.gate) == (REPO, True, "")
    assert "gated, licence accepted" in found.reasons


def test_a_repository_that_became_open_is_no_longer_gated() -> None:
    assert not _confirmed(config=CONFIG).gated


@pytest.mark.parametrize("state", ["not checked", "token refused"])
def test_what_was_not_seen_changes_nothing_but_is_said(state: str) -> None:
    found = _confirmed(state=state, said=f"{state} (why)")
    assert (found.repo, found.gated) == (REPO, True)
    assert f"{state} (why)" in found.reasons


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("num_hidden_layers", 33, "layers 32 here, 33 there"), ("hidden_size", 5120, "hidden size 4096 here, 5120 there"),
     ("num_key_value_heads", 4, "KV heads 8 here, 4 there"), ("num_attention_heads", 64, "attention heads 32 here, 64 there"),
     ("head_dim", 64, "head dimension 128 here, 64 there")],
)
def test_another_shape_is_refused_with_both_numbers(key: str, value: int, words: str) -> None:
    found = _confirmed(config=CONFIG | {key: value})
    assert found.repo is None
    assert words in "; ".join(found.reasons)
    assert found.candidates == (REPO,)


def test_the_spec_wins_but_is_told() -> None:
    found = _confirmed("acme/own", "acme/own", config=CONFIG | {"num_hidden_layers": 33}, weights=16_000_000_000)
    assert found.repo == "acme/own"
    assert "but its layers 32 here, 33 there" in found.reasons


def test_an_unknown_repository_is_measured() -> None:
    config = CONFIG | {"quantization_config": {"quant_method": "awq", "bits": 4}}
    found = _confirmed("acme/own", "acme/own", config=config, weights=5_600_000_000)
    assert found.scheme == "awq"
    assert found.numbers.params_b == pytest.approx(10)
    assert found.numbers.vocab == 128256


@pytest.mark.parametrize("config", [{"architectures": ["MllamaForConditionalGeneration"]},
                                    {"quantization_config": {"quant_method": "gguf"}}])  # fmt: skip
def test_what_vllm_lacks_is_refused_even_if_the_spec_names_it(config: dict) -> None:
    found = _confirmed("acme/own", "acme/own", config=config)
    assert found.stays
    assert CATALOG.vllm in found.reasons[-1]


def test_a_fact_of_another_repository_is_none_of_ours() -> None:
    assert _confirmed(repo="acme/other") == map_model(LLAMA, CATALOG)


@pytest.mark.parametrize(
    ("quant", "scheme"),
    [
        (None, "bf16"), ("?", "bf16"), ({}, "bf16"),
        ({"quant_method": "fp8", "fmt": "e4m3"}, "fp8"),
        ({"quant_method": "awq", "w_bit": 4}, "awq"),
        ({"quant_method": "gptq", "bits": 4}, "gptq-int4"),
        ({"quant_method": "gptq", "bits": 8}, "w8a8-int8"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8"),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized",
          "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int"}}}}, "w4a16"),
        ({"quant_method": "compressed-tensors", "format": "float-quantized",
          "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}}}, "fp8"),
        ({"quant_method": "compressed-tensors", "format": "int-quantized",
          "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "int"}}}}, "w8a8-int8"),
        ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized",
          "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "float"}}}}, "nvfp4"),
        ({"quant_method": "compressed-tensors", "config_groups": {"group_0": None}}, "bf16"),
    ],
)  # fmt: skip
def test_schemes(quant: object, scheme: str) -> None:
    assert config_scheme({"quantization_config": quant}) == scheme


_junk = st.none() | st.booleans() | st.integers(-5, 300) | st.floats() | st.text(max_size=8) | st.lists(st.none(), max_size=3)
_config = st.dictionaries(st.sampled_from([
    "model_type", "num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim",
    "layer_types", "sliding_window", "vocab_size", "kv_lora_rank", "num_experts", "architectures", "multi_query",
    "tie_word_embeddings", "vision_config", "quantization_config", "torch_dtype", "intermediate_size",
]), _junk)  # fmt: skip


@given(config=_config | st.builds(lambda inner: {"text_config": inner}, _config), weights=st.none() | st.integers(-9, 2**70))
def test_odd_configs_never_raise_and_never_lose_the_model(config: dict, weights: int | None) -> None:
    facts = (HubFact(REPO, "open", "open", config, weights),)
    found = confirmed(map_model(LLAMA, CATALOG), LLAMA, facts, CATALOG)
    assert found.repo in (REPO, None)
    assert found.reasons
    numbers, scheme, size = measured(REPO, CATALOG, (LLAMA,), facts)
    ask = Ask("x", numbers, scheme, files=size, shape=shape_for(REPO, CATALOG, (LLAMA,), facts))
    assert ask.weights() > 0
    assert ask.one_sequence() >= 0
    json.dumps(trimmed(config))


def test_config_json_knows_better_than_the_catalogue() -> None:
    """What the file does not tell and the catalogue has otherwise is taken from the repository itself."""
    found = _confirmed(config=CONFIG | {"intermediate_size": 14000, "max_position_embeddings": 8192})
    assert (found.numbers.intermediate, found.numbers.max_context) == (14000, 8192)
    assert found.numbers.params_b == pytest.approx(8.03)
