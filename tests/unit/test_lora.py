from __future__ import annotations

import json

import pytest
import yaml
from decide_cases import ROOT
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.decide.catalog import Numbers, load
from orchestrator.decide.lora import Adapter, adapter, arguments, base_doubt, base_problem, lora_bytes, vram
from orchestrator.decide.shapes import text_part

LLAMA = load().named("llama3.1")[0].numbers
CONFIG = {"peft_type": "LORA", "r": 16, "target_modules": ["q_proj", "v_proj"], "bias": "none",
          "base_model_name_or_path": "meta-llama/Llama-3.1-8B-Instruct"}  # fmt: skip


def test_bytes_are_those_of_the_two_matrices() -> None:
    # r=16, q and v of 32 layers: A is r x in, B is out x r; PEFT saves 6,815,744 parameters for this base.
    assert lora_bytes(16, ("q_proj", "v_proj"), LLAMA) == 2 * 6_815_744
    # All seven linear layers: 41,943,040 parameters, as PEFT prints them.
    every = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert lora_bytes(16, every, LLAMA) == 2 * 41_943_040
    # vLLM reserves slots for head and embedding too, whatever the adapter targets.
    slot = 2 * 41_943_040 + 2 * 16 * 2 * (4096 + 128_256)
    assert vram(16, LLAMA) == slot
    assert vram(16, LLAMA, 4) == 4 * slot


def test_tensor_parallelism_splits_one_of_the_two_matrices() -> None:
    whole, half = vram(16, LLAMA), vram(16, LLAMA, 1, 2)
    assert whole is not None
    assert half is not None
    assert whole / 2 < half < whole
    # q: A 16 x 4096 whole, B 4096 x 16 halved; o: the other way round.
    per_layer = (4096 + 2048) + 2 * (4096 + 512) + (2048 + 4096) + 2 * (4096 + 7168) + (7168 + 4096)
    assert half == 2 * 16 * (32 * per_layer + 2 * (4096 + 128_256))


def test_experts_have_slots_of_their_own() -> None:
    one = Numbers(layers=2, hidden=64, heads=4, kv_heads=2, head_dim=16, intermediate=32, vocab=1000, experts=8)
    attention = (64 + 64) + 2 * (64 + 32) + (64 + 64)
    assert vram(8, one) == 2 * 8 * (2 * (attention + 8 * 3 * (64 + 32) + 64 + 8) + 2 * (64 + 1000))
    assert vram(8, Numbers()) is None


def test_experts_are_no_larger_than_the_whole_model_allows() -> None:
    # Qwen3-30B-A3B: config.json has an intermediate_size of 6144 for dense layers, and 768 for each of 128 experts.
    found = vram(16, load().by_repo("Qwen/Qwen3-30B-A3B")[0].numbers)
    experts = 2 * 16 * 48 * 128 * 3 * (2048 + 768)
    assert experts < found < experts * 1.1


RECORDED = json.loads((ROOT / "lora" / "recorded.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", [name for name, one in RECORDED.items() if one.get("bytes")])
def test_slots_are_never_larger_than_counted(name: str) -> None:
    """What the real vLLM made for these configurations, 2 slots of rank 16 (tests/engines/test_lora_bytes.py)."""
    config = text_part(yaml.safe_load((ROOT / "kv" / f"{name}.yaml").read_text(encoding="utf-8"))["config"])
    counted, real = vram(16, shaped(config), 2), RECORDED[name]["bytes"]
    if counted is None:     # of another kind than attention and a gated feed-forward: said, not counted
        assert any(key in config for key in ("mamba_d_ssm", "conv_L_cache", "mamba_num_heads", "global_head_dim"))
    else:
        assert real <= counted <= real * 1.5
    if name in ("llama-gqa", "qwen3-dense", "qwen3-embedding", "llama-fp8-cache"):
        assert counted == real


def shaped(config: dict) -> Numbers:
    heads = config.get("num_attention_heads")
    mixed = any(key in config for key in ("mamba_d_ssm", "conv_L_cache", "mamba_num_heads", "global_head_dim"))
    return Numbers(
        layers=config.get("num_hidden_layers"), hidden=config.get("hidden_size"), heads=heads,
        kv_heads=config.get("num_key_value_heads", heads), head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        intermediate=config.get("intermediate_size") or config.get("ffn_dim"), vocab=config.get("vocab_size"), hybrid=mixed,
    )  # fmt: skip


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
        ({"lora_bias": True}, "lora_bias"),
        ({"init_lora_weights": "pissa"}, "changes the base's own weights"),
        ({"alora_invocation_tokens": [1]}, "Activated LoRA"),
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
    assert adapter("a", "x/y", CONFIG | {"target_modules": "all-linear"}, LLAMA).bytes == 2 * 41_943_040
    assert adapter("a", "x/y", CONFIG | {"target_modules": r".*\.(q_proj|v_proj)$"}, LLAMA).modules == ("q_proj", "v_proj")
    assert adapter("a", "x/y", CONFIG | {"target_modules": ["model.layers.0.self_attn.q_proj"]}, LLAMA).modules == ("q_proj",)


def test_an_adapter_belongs_to_its_base() -> None:
    catalog = load()
    found = adapter("a", "x/y", CONFIG, LLAMA)
    for repo in ("meta-llama/Llama-3.1-8B-Instruct", "RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8"):
        assert base_problem(found, repo, catalog) == ""
        assert base_doubt(found, repo, catalog) == ""
    assert "layers 28 instead of 32" in base_problem(found, "Qwen/Qwen2.5-7B-Instruct", catalog)
    assert base_problem(found, "acme/unknown", catalog) == ""
    assert "check" in base_doubt(found, "acme/unknown", catalog)
    nameless = Adapter("a", "x/y", "", 8, (), None)
    assert base_problem(nameless, "acme/unknown", catalog) == base_doubt(nameless, "acme/unknown", catalog) == ""


def test_the_same_dimensions_are_not_the_same_model() -> None:
    catalog = load()
    older = adapter("a", "x/y", CONFIG | {"base_model_name_or_path": "meta-llama/Meta-Llama-3-8B-Instruct"}, LLAMA)
    assert base_problem(older, "meta-llama/Llama-3.1-8B-Instruct", catalog) == ""
    assert "check that" in base_doubt(older, "meta-llama/Llama-3.1-8B-Instruct", catalog)


def test_matrices_of_another_model_are_refused_whatever_the_configuration_says() -> None:
    found = adapter("a", "x/y", CONFIG, LLAMA, None, {"q_proj": (32, 3584, 3584), "odd": (8, 1, 1)})
    assert found.rank == 32
    assert "q_proj 3584 x 3584 instead of 4096 x 4096" in "; ".join(found.problems)
    assert adapter("a", "x/y", CONFIG, LLAMA, None, {"q_proj": (16, 4096, 4096), "v_proj": (16, 4096, 0)}).problems == ()


def test_arguments() -> None:
    one, two = adapter("a", "x/y", CONFIG, LLAMA), adapter("b", "/b", CONFIG | {"r": 33}, LLAMA)
    assert arguments((one, two), 2) == (
        "--enable-lora", "--max-lora-rank", "64", "--max-loras", "2", "--lora-modules", "a=x/y", "b=/b",
    )  # fmt: skip
    assert arguments(()) == ()


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**6) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=5,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from([*CONFIG, "rank_pattern", "modules_to_save", "init_lora_weights"]), ANYTHING))
def test_a_configuration_of_anything_is_read_or_refused_never_raised(config: dict) -> None:
    found = adapter("a", "x/y", config, LLAMA)
    assert found.problems or (found.rank > 0 and found.modules)
