"""KV cache and weights against what the real vLLM 0.32 said of the same configurations (see tests/engines)."""

from __future__ import annotations

import json

import pytest
from decide_cases import ROOT, cases, read
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.decide.ggufshape import from_gguf
from orchestrator.decide.kv import Cache, element_bytes, groups, null_block, sequence_bytes, state_bytes, token_bytes
from orchestrator.decide.shapes import from_config
from orchestrator.decide.weights import Parameters, gguf_bytes, parameters, size

RECORDED = json.loads((ROOT / "kv" / "recorded.json").read_text())


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_bytes_per_token_equal_the_real_engines(name: str) -> None:
    case = read(next(path for path in cases("kv") if path.stem == name))
    shape, real = from_config(case["config"]), RECORDED[name]
    element = element_bytes(str(case["args"].get("kv_cache_dtype", "auto")))
    cache = Cache(element=element, block=128, batched_tokens=real["batched_tokens"],
                  batches=real["in_flight"] // real["batched_tokens"])  # fmt: skip
    paged = [one for one in real["layers"] if one["spec"] != "MambaSpec"]
    assert token_bytes(shape, cache) == sum(one["page"] / one["block"] for one in paged)
    assert sequence_bytes(shape, real["max_model_len"], cache) == max(real[layout][0] for layout in ("LBHNC", "BLHNC"))
    assert null_block(shape, cache) == real["LBHNC"][1], "what the pool hands out at once"
    for one in real["layers"]:
        assert one["spec"] != "MambaSpec" or state_bytes(shape) == one["page"]
    assert sum(layer.window > 0 for layer in shape.layers) == sum(one["window"] is not None for one in paged)


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_weights_equal_the_real_engines(name: str) -> None:
    case = read(next(path for path in cases("kv") if path.stem == name))
    assert size(parameters(case["config"]), "bf16").low == pytest.approx(RECORDED[name]["bytes"], rel=0.02)
    assert RECORDED[name]["bytes"] <= size(parameters(case["config"]), "bf16").high


def test_latent_vectors_are_on_every_rank_and_heads_are_never_halved() -> None:
    mla = from_config({"num_hidden_layers": 27, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "hidden_size": 2048})
    assert token_bytes(mla, Cache(tensor_parallel=8)) == token_bytes(mla) == 27 * 576 * 2
    gqa = from_config({"num_hidden_layers": 1, "num_attention_heads": 8, "num_key_value_heads": 2, "hidden_size": 1024})
    assert [token_bytes(gqa, Cache(tensor_parallel=n)) for n in (1, 2, 8)] == [1024, 512, 512]


def test_a_window_caps_a_long_sequence() -> None:
    config = {"model_type": "mistral", "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 128}
    windowed, full = from_config({**config, "sliding_window": 1024}), from_config(config)
    assert sequence_bytes(windowed, 131072) < sequence_bytes(full, 131072) / 25
    assert sequence_bytes(windowed, 512) == sequence_bytes(full, 512) + 16 * 512, "one block more for the offset"
    assert groups(windowed) == {"sliding": (1, 512.0)}


def test_gguf_keys_say_the_same_as_the_config() -> None:
    info = {
        "general.architecture": "gemma3", "gemma3.block_count": 12, "gemma3.embedding_length": 256,
        "gemma3.attention.head_count": 4, "gemma3.attention.head_count_kv": 2, "gemma3.attention.key_length": 64,
        "gemma3.attention.value_length": 64, "gemma3.attention.sliding_window": 256, "gemma3.context_length": 4096,
    }  # fmt: skip
    config = {"model_type": "gemma3_text", "num_hidden_layers": 12, "hidden_size": 256, "num_attention_heads": 4,
              "num_key_value_heads": 2, "head_dim": 64, "sliding_window": 256}  # fmt: skip
    assert from_gguf(info).layers == from_config(config).layers
    hybrid = from_gguf({**info, "gemma3.attention.head_count_kv": [0, 2] * 6})
    assert [one.kind for one in hybrid.layers][:2] == ["linear", "sliding"]


def test_gguf_tensors_are_summed_exactly() -> None:
    assert gguf_bytes([{"type": "Q4_K", "shape": [4096, 4096]}, {"type": "F32", "shape": [4096]}]) == 9437184 + 16384
    assert gguf_bytes([{"type": "no such type", "shape": [1]}]) is None


def test_no_scheme_quantises_embeddings_and_the_bad_end_is_never_below() -> None:
    counted = Parameters(embedding=1000, head=1000, dense=8000)
    assert size(counted, "int4").low == 4000 + int(8000 * 4.156 / 8)
    assert all(size(counted, kind).low <= size(counted, kind).high for kind in ("bf16", "fp8", "int4", "nvfp4", "?"))


_junk = st.none() | st.booleans() | st.integers(-5, 300) | st.floats(allow_nan=True) | st.text() | st.lists(st.none())


@given(st.dictionaries(st.sampled_from([
    "model_type", "num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim",
    "layer_types", "sliding_window", "vocab_size", "kv_lora_rank", "num_experts", "text_config", "architectures",
    "mamba_n_heads", "hybrid_override_pattern", "tie_word_embeddings", "vision_config", "attn_layer_period",
]), _junk))  # fmt: skip
def test_odd_configs_never_raise(config: dict[str, object]) -> None:
    shape = from_config(config)
    assert sequence_bytes(shape, 1000) >= 0
    assert size(parameters(config), "fp8").high >= 0
    from_gguf({"general.architecture": "x", **{f"x.{key}": value for key, value in config.items()}})


@pytest.mark.parametrize(
    ("config", "token"),
    [
        ({"model_type": "falcon", "num_hidden_layers": 2, "num_attention_heads": 8, "hidden_size": 512,
          "multi_query": True}, 2 * 128 * 2),
        ({"model_type": "falcon", "num_hidden_layers": 2, "num_attention_heads": 8, "hidden_size": 512,
          "multi_query": True, "new_decoder_architecture": True, "num_kv_heads": 4}, 2 * 4 * 128 * 2),
        ({"model_type": "chatglm", "num_layers": 2, "num_attention_heads": 32, "hidden_size": 4096, "kv_channels": 128,
          "multi_query_attention": True, "multi_query_group_num": 2}, 2 * 2 * 256 * 2),
        ({"model_type": "gemma3n_text", "num_hidden_layers": 30, "num_attention_heads": 8, "num_key_value_heads": 2,
          "head_dim": 256, "num_kv_shared_layers": 10}, 20 * 2 * 512 * 2),
        ({"model_type": "jamba", "num_hidden_layers": 8, "num_attention_heads": 32, "num_key_value_heads": 8,
          "hidden_size": 4096, "attn_layer_period": 8, "attn_layer_offset": 4}, 8 * 256 * 2),
        ({"model_type": "nemotron_h", "num_hidden_layers": 4, "num_attention_heads": 32, "num_key_value_heads": 8,
          "head_dim": 128, "hybrid_override_pattern": "M-*-"}, 8 * 256 * 2),
        ({"model_type": "qwen2", "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 256,
          "sliding_window": 4096, "use_sliding_window": False}, 2 * 4 * 128 * 2),
        ({"text_config": {"num_hidden_layers": 1, "num_attention_heads": 4, "hidden_size": 256}}, 4 * 128 * 2),
        ({"model_type": "bert", "num_hidden_layers": 12, "num_attention_heads": 12, "hidden_size": 768}, 0),
        ({}, 0),
    ],
    ids=["one head", "falcon 40b", "chatglm", "shared layers", "jamba", "nemotron-h", "window unused", "inner", "bert", "{}"],
)  # fmt: skip
def test_other_families(config: dict[str, object], token: int) -> None:
    assert token_bytes(from_config(config)) == token
