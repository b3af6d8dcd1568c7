"""Which layers a model has: from config.json, the installed file or the catalogue; never less than vLLM would keep."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.decide.catalog import Numbers, load
from orchestrator.decide.engine_memory import Ask
from orchestrator.decide.ggufshape import from_gguf
from orchestrator.decide.kv import Cache, null_block, sequence_bytes, token_bytes
from orchestrator.decide.mapping import map_model
from orchestrator.decide.shapes import Shape, from_config
from orchestrator.decide.shaping import from_entry, shape_for, told_by_gguf
from orchestrator.facts import HubFact, Model

CATALOG = load()
GEMMA = {
    "general.architecture": "gemma3", "gemma3.block_count": 34, "gemma3.embedding_length": 2560,
    "gemma3.attention.head_count": 8, "gemma3.attention.head_count_kv": 4, "gemma3.attention.key_length": 256,
    "gemma3.attention.value_length": 256, "gemma3.attention.sliding_window": 1024,
}  # fmt: skip


def _whole(shape: Shape, tokens: int) -> int:
    return sequence_bytes(shape, tokens) + null_block(shape)


def _kinds(shape: Shape | None) -> dict[str, int]:
    assert shape is not None
    return {kind: sum(one.kind == kind for one in shape.layers) for kind in {one.kind for one in shape.layers}}


@pytest.mark.parametrize(
    ("repo", "kinds"),
    [
        ("google/gemma-2-9b-it", {"full": 21, "sliding": 21}),
        ("google/gemma-3-27b-it", {"full": 10, "sliding": 52}),
        ("openai/gpt-oss-20b", {"full": 12, "sliding": 12}),
        ("CohereLabs/c4ai-command-r7b-12-2024", {"full": 8, "sliding": 24}),
        ("Qwen/Qwen3-Next-80B-A3B-Thinking", {"full": 12, "linear": 36}),
        ("ibm-granite/granite-4.0-h-tiny", {"full": 4, "linear": 36}),
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", {"full": 6, "linear": 46}),
        ("deepseek-ai/DeepSeek-R1-0528", {"mla": 61}),
        ("meta-llama/Llama-3.1-8B-Instruct", {"full": 32}),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", {"full": 48}),
        ("BAAI/bge-m3", {"none": 24}),
    ],
)
def test_the_catalogue_tells_the_layers(repo: str, kinds: dict[str, int]) -> None:
    assert _kinds(shape_for(repo, CATALOG)) == kinds


def test_a_catalogue_shape_keeps_what_the_numbers_say_where_every_layer_sees_everything() -> None:
    plain = [one for one in CATALOG.entries if not one.attention and from_entry(one)]
    assert len(plain) > 250
    for one in plain:
        assert token_bytes(from_entry(one) or Shape()) == (one.numbers.kv_token or 0), one.repo


def test_a_hybrid_keeps_more_than_its_full_layers_alone() -> None:
    hybrids = [one for one in CATALOG.entries if "full" in one.attention]
    assert len(hybrids) > 10
    for one in hybrids:
        shape = from_entry(one)
        assert shape is not None
        assert _whole(shape, 65536) > 65536 * (one.numbers.kv_token or 0), one.repo


def test_windows_make_a_long_context_affordable() -> None:
    entry = CATALOG.by_repo("google/gemma-3-4b-it")
    assert entry is not None
    shape = from_entry(entry[0])
    assert shape is not None
    assert _whole(shape, 131072) < 131072 * (entry[0].numbers.kv_token or 0) / 5


def test_config_json_comes_before_the_file_and_the_file_before_the_catalogue() -> None:
    repo = "google/gemma-3-4b-it"
    model = Model("gemma3:4b", architecture=GEMMA | {"gemma3.attention.sliding_window": 512})
    config = {"model_type": "gemma3", "text_config": {
        "num_hidden_layers": 34, "hidden_size": 2560, "num_attention_heads": 8, "num_key_value_heads": 4,
        "head_dim": 256, "sliding_window": 256, "model_type": "gemma3_text"}}  # fmt: skip
    seen = HubFact(repo, "open", "open", config)

    def window(shape: Shape | None) -> int:
        assert shape is not None
        return max(one.window for one in shape.layers)

    assert window(shape_for(repo, CATALOG, (model,), (seen,))) == 256
    assert window(shape_for(repo, CATALOG, (model,), (HubFact("else/where", "open", "open", config),))) == 512
    assert window(shape_for(repo, CATALOG)) == 1024
    assert shape_for("acme/unknown", CATALOG) is None


def test_a_mapping_carries_its_layers() -> None:
    assert _kinds(map_model(Model("gemma3:4b", architecture=GEMMA), CATALOG).shape) == {"full": 5, "sliding": 29}
    assert map_model(Model("nobody/knows:1b"), CATALOG).shape is None


def _granite(heads: object) -> dict[str, object]:
    return {
        "general.architecture": "granitehybrid", "granitehybrid.block_count": 40,
        "granitehybrid.embedding_length": 1536, "granitehybrid.attention.head_count": 12,
        "granitehybrid.attention.head_count_kv": heads, "granitehybrid.ssm.inner_size": 3072,
        "granitehybrid.ssm.state_size": 128, "granitehybrid.ssm.conv_kernel": 4, "granitehybrid.ssm.group_count": 1,
    }  # fmt: skip


def test_lists_that_show_leaves_out_are_not_taken_for_an_answer() -> None:
    """Without `verbose` /api/show has null for lists: the catalogue then tells the layers, the file the state."""
    verbose, terse = _granite([0] * 9 + [4] + [0] * 30), _granite(None)
    assert told_by_gguf(verbose)
    assert not told_by_gguf(terse)
    repo = "ibm-granite/granite-4.0-h-tiny"
    shape = shape_for(repo, CATALOG, (Model("granite4:tiny-h", architecture=terse),))
    assert _kinds(shape) == {"full": 4, "linear": 36}
    assert shape is not None
    assert shape.state == from_gguf(verbose).state == (3 * (3072 + 256), 3072 * 128)


def test_a_layer_that_attends_and_recurs_keeps_both() -> None:
    """Falcon-H1: every layer has attention beside a Mamba 2 mixer."""
    config = {"model_type": "falcon_h1", "num_hidden_layers": 24, "num_attention_heads": 12, "num_key_value_heads": 2,
              "head_dim": 128, "hidden_size": 2048, "mamba_n_heads": 48, "mamba_d_head": 64, "mamba_d_state": 256,
              "mamba_d_conv": 4, "mamba_n_groups": 1}  # fmt: skip
    both = from_config(config)
    plain = from_config({**config, "model_type": "llama"})
    states = 24 * 3 * 48 * 64 * 256 * 4
    assert sequence_bytes(both, 4096) > sequence_bytes(plain, 4096) + states
    zamba = from_config({**config, "model_type": "zamba2", "layers_block_type": ["mamba", "hybrid"] * 12})
    assert (zamba.beside, _kinds(zamba)) == (12, {"linear": 12, "full": 12})


def test_groups_of_unequal_size_are_padded_as_vllm_pads_them() -> None:
    """10 full layers and 52 with a window: groups of 10, six of them for the windows, so that 60 are paid."""
    config = {"model_type": "gemma3_text", "num_hidden_layers": 62, "num_attention_heads": 32, "head_dim": 128,
              "num_key_value_heads": 16, "hidden_size": 5376, "sliding_window": 1024}  # fmt: skip
    cache = Cache(batched_tokens=2048)
    page, length = 16 * 16 * 256 * 2, 131072
    window = -(-(1023 + 2 * 2048) // 16) + 1
    assert sequence_bytes(from_config(config), length, cache) == 10 * page * (length // 16 + 6 * window)
    assert null_block(from_config(config), cache) == 10 * page


def test_pages_of_unequal_size_are_made_equal() -> None:
    """Gemma 4: wide heads in the global layers; their blocks hold fewer tokens or the others' more."""
    config = {"model_type": "gemma4_text", "num_hidden_layers": 12, "num_attention_heads": 8, "hidden_size": 2048,
              "num_key_value_heads": 4, "head_dim": 256, "global_head_dim": 512, "sliding_window": 512}  # fmt: skip
    pages = 16 * 4 * 1024 * 2
    window = -(-(511 + 4096) // 32) + 1
    assert sequence_bytes(from_config(config), 32768) == 2 * pages * (2048 + 5 * window)


def test_qwen_windows_begin_after_the_layers_that_see_everything() -> None:
    config = {"model_type": "qwen2", "num_hidden_layers": 8, "num_attention_heads": 4, "hidden_size": 256,
              "sliding_window": 1024, "use_sliding_window": True, "max_window_layers": 6}  # fmt: skip
    assert _kinds(from_config(config)) == {"full": 6, "sliding": 2}


def test_an_unknown_kind_of_layer_counts_as_attention_to_everything() -> None:
    config = {"model_type": "new", "num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 256,
              "layer_types": ["chunked_attention", "surprise", "moe"]}  # fmt: skip
    assert _kinds(from_config(config)) == {"full": 2, "none": 1}


def test_gguf_windows_have_their_own_head_size() -> None:
    info = {"general.architecture": "gemma4", "gemma4.block_count": 6, "gemma4.embedding_length": 2048,
            "gemma4.attention.head_count": 8, "gemma4.attention.head_count_kv": 2, "gemma4.attention.key_length": 512,
            "gemma4.attention.value_length": 512, "gemma4.attention.key_length_swa": 256,
            "gemma4.attention.value_length_swa": 256, "gemma4.attention.sliding_window": 512,
            "gemma4.attention.sliding_window_pattern": [True, True, True, True, True, False],
            "gemma4.attention.shared_kv_layers": 1}  # fmt: skip
    shape = from_gguf(info)
    assert [(one.kind, one.head_dim) for one in shape.layers][:2] == [("sliding", 256)] * 2
    assert shape.layers[-1].kind == "shared"
    terse = from_gguf(info | {"gemma4.attention.sliding_window_pattern": None})
    assert terse.layers[4] == from_gguf(info | {"gemma4.attention.sliding_window": None}).layers[4]


def test_sparse_attention_keeps_its_index_beside_the_latent_vector() -> None:
    config = {"model_type": "deepseek_v32", "num_hidden_layers": 2, "kv_lora_rank": 512, "qk_rope_head_dim": 64}
    plain, sparse = from_config(config), from_config(config | {"index_head_dim": 128})
    assert token_bytes(sparse) - token_bytes(plain) == 2 * 132


def test_drafted_tokens_keep_a_state_each() -> None:
    shape = shape_for("Qwen/Qwen3-Next-80B-A3B-Thinking", CATALOG)
    plain = Ask("x", Numbers(), shape=shape, batched_tokens=2048)
    assert shape is not None
    page = null_block(shape) // 12
    assert replace(plain, drafted=2).one_sequence() - plain.one_sequence() == 2 * 36 * page
