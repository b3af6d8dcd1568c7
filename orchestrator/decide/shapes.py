"""The shape of a model, layer by layer, from a Hugging Face config.json.

Wrong or missing values never raise: a shape that cannot size its cache has no layers (`known` is false).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Every n-th layer sees everything, the others a window: what the families do where their config does not say.
EVERY = {"gemma2": 2, "gemma3": 6, "gemma3n": 5, "gemma4": 6, "cohere2": 4, "gpt-oss": 2, "gptoss": 2, "gpt_oss": 2,
          "olmo2": 4, "olmo3": 4, "exaone4": 4}  # fmt: skip
# What the families take where config.json does not say, as the text part of Gemma 3's does not.
_HEAD = {"gemma": 256, "gemma2": 256, "gemma3": 256, "gemma3n": 256, "gemma4": 256, "qwen3": 128, "qwen3_moe": 128,
         "qwen3_vl": 128, "qwen3_vl_moe": 128, "qwen3_next": 256, "qwen3_5": 256, "qwen3_5_moe": 256, "gpt_oss": 64,
         "llama4": 128, "nemotron_h": 128}  # fmt: skip
ENCODERS = ("bert", "roberta", "mpnet", "distilbert", "albert", "electra")      # they keep no cache
_TIED = ("gemma", "gpt2", "opt", "bloom", "cohere", "t5", "bart", "lfm2", "falcon", "gpt_bigcode", "mpt", "starcoder2")
_LINEAR = ("linear_attention", "mamba", "conv", "recurrent", "ssm", "gated_delta", "short_conv")
_SLIDING = ("sliding", "local")
_CACHELESS = ("moe", "mlp", "dense", "sparse", "ffn", "none", "identity", "skip", "")


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's attention; head sizes in elements, window in tokens.

    kind: full, sliding, mla, linear (a state per sequence), shared (reads an earlier layer's cache), or none.
    """

    kind: str
    kv_heads: int = 0
    head_dim: int = 0
    v_head_dim: int = 0
    window: int = 0


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's dimensions in elements. `state`: what one linear layer keeps of one sequence."""

    kind: str = ""              # model_type of config.json, general.architecture of a GGUF
    layers: tuple[Layer, ...] = ()
    hidden: int = 0
    heads: int = 0
    vocab: int = 0
    intermediate: int = 0
    experts: int = 0
    experts_used: int = 0
    latent: int = 0             # MLA: kv_lora_rank + qk_rope_head_dim
    state: tuple[int, int] = (0, 0)     # convolution, recurrence
    states: int = 3             # per sequence and linear layer: two, and a checkpoint of a prefill by Mamba 2
    beside: int = 0             # layers that keep a state beside their attention's cache (Falcon-H1, Zamba 2)
    tied: bool = False
    vision: bool = False
    max_context: int = 0
    encoder: bool = False       # BERT and the like: no cache

    @property
    def known(self) -> bool:
        return bool(self.layers) and all(map(_countable, self.layers))


def _countable(one: Layer) -> bool:
    return one.kind in ("linear", "none", "mla", "shared") or one.kv_heads > 0 < one.head_dim


def whole(data: Mapping[str, Any], *names: str) -> int:
    """Return the first of these keys that holds a positive number, as an integer; 0 when none does."""
    for name in names:
        value = data.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e15:
            return int(value)
    return 0


def text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a config.json that describes the language model."""
    for name in ("text_config", "llm_config", "language_config", "thinker_config"):
        inner = config.get(name)
        if isinstance(inner, Mapping):
            return text_part({**inner, "model_type": inner.get("model_type") or config.get("model_type", "")})
    return config


def from_config(config: Mapping[str, Any]) -> Shape:
    """Return the shape that a Hugging Face config.json describes."""
    text = text_part(config)
    kind = str(text.get("model_type") or "")
    hidden = whole(text, "hidden_size", "n_embd", "d_model", "dim")
    heads = whole(text, "num_attention_heads", "n_head", "num_heads", "n_heads")
    count = whole(text, "num_hidden_layers", "n_layer", "num_layers", "n_layers")
    latent = whole(text, "kv_lora_rank")
    tied = config.get("tie_word_embeddings", text.get("tie_word_embeddings"))
    return Shape(
        kind=kind,
        layers=tuple(_config_layer(text, kind, at, hidden, heads) for at in range(min(count, 1024))),
        hidden=hidden,
        heads=heads,
        vocab=whole(text, "vocab_size", "padded_vocab_size"),
        intermediate=whole(text, "intermediate_size", "n_inner", "ffn_dim", "d_ff", "ffn_hidden_size") or 4 * hidden,
        experts=whole(text, "num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"),
        experts_used=whole(text, "num_experts_per_tok", "moe_topk", "top_k_experts"),
        latent=latent + whole(text, "qk_rope_head_dim") if latent else 0,
        state=state_parts(text, hidden),
        states=2 if whole(text, "linear_num_value_heads", "conv_L_cache", "attn_layer_period") else 3,
        beside=_beside(text, kind, count),
        tied=bool(tied) if tied is not None else tied_by_default(kind),
        vision=any(isinstance(config.get(one), Mapping) for one in ("vision_config", "visual", "vision_tower")),
        max_context=whole(text, "max_position_embeddings", "n_positions", "seq_length", "max_sequence_length"),
        encoder=kind.replace("xlm-", "") in ENCODERS or kind.endswith("bert"),
    )


def tied_by_default(kind: str) -> bool:
    """Return what transformers assumes where config.json does not say: true only of some families."""
    return kind.startswith(_TIED)


def _config_layer(text: Mapping[str, Any], kind: str, at: int, hidden: int, heads: int) -> Layer:
    named = _kind_of(text, kind, at)
    if named == "linear" or kind.replace("xlm-", "") in ENCODERS or kind.endswith("bert"):
        return Layer("linear" if named == "linear" else "none")
    if named == "none":
        return Layer("none")
    if whole(text, "kv_lora_rank"):
        # DeepSeek Sparse Attention keeps an 8-bit key with its scale beside the latent vector.
        index = whole(text, "index_head_dim")
        beside = (index + 5) // 2 if index else 0
        return Layer("mla", 1, whole(text, "kv_lora_rank") + whole(text, "qk_rope_head_dim") + beside, 0)
    dim = head_size(text, kind, hidden, heads)
    kv = _kv_heads(text, at, heads)
    if named == "full" and kind.startswith("gemma4"):
        dim = whole(text, "global_head_dim") or dim
        kv = (whole(text, "num_global_key_value_heads") if text.get("attention_k_eq_v") is True else 0) or kv
    shared = whole(text, "num_kv_shared_layers")            # the last ones, in Gemma 3n and 4
    if shared and at >= whole(text, "num_hidden_layers") - shared:
        return Layer("shared", kv, dim, dim)
    window = whole(text, "sliding_window", "sliding_window_size", "attention_window_size") if named == "sliding" else 0
    window += bool(window) and kind == "cohere2"            # it sees one token more
    return Layer("sliding" if window else "full", kv, dim, whole(text, "v_head_dim") or dim, window)


def head_size(text: Mapping[str, Any], kind: str, hidden: int, heads: int) -> int:
    """Return the elements of one attention head; 0 where nothing tells."""
    told = whole(text, "head_dim", "attention_head_dim", "kv_channels") or _HEAD.get(kind.removesuffix("_text"), 0)
    return told or (hidden // heads if heads else 0)


def _kv_heads(text: Mapping[str, Any], at: int, heads: int) -> int:
    value = text.get("num_key_value_heads")
    if isinstance(value, list):
        return value[at] if at < len(value) and isinstance(value[at], int) else heads
    if text.get("multi_query") is True and not text.get("new_decoder_architecture"):
        return 1
    nested = text.get("attn_config")                        # MPT, DBRX
    inner = whole(nested, "kv_n_heads") if isinstance(nested, Mapping) else 0
    return whole(text, "num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num") or inner or heads


def _kind_of(text: Mapping[str, Any], kind: str, at: int) -> str:
    """Return full, sliding, linear or none for one layer, as vLLM decides it."""
    types = text.get("layer_types") or text.get("layers_block_type")
    pattern = text.get("hybrid_override_pattern")
    if isinstance(types, list) and at < len(types):
        return _named(str(types[at]))
    if isinstance(pattern, str) and at < len(pattern):     # Nemotron-H: M mamba, * attention, - and E have no cache
        return {"M": "linear", "*": "full"}.get(pattern[at], "none")
    return _by_period(text, kind, at)


def _named(word: str) -> str:
    """Return what a layer of this name keeps; a name that nobody knows counts as attention to everything."""
    low = word.lower()
    if any(one in low for one in _SLIDING):
        return "sliding"
    return "linear" if any(one in low for one in _LINEAR) else "none" if low in _CACHELESS else "full"


def _beside(text: Mapping[str, Any], kind: str, count: int) -> int:
    types = text.get("layers_block_type") or text.get("layer_types")
    both = sum(str(one).lower() == "hybrid" for one in types) if isinstance(types, list) else 0
    return count if kind == "falcon_h1" else both


def _by_period(text: Mapping[str, Any], kind: str, at: int) -> str:
    family = kind.removesuffix("_text")
    attention = text.get("attn_layer_indices") or text.get("full_attn_idxs")
    if isinstance(attention, list):                         # Bamba, LFM2
        return "full" if at in attention else "linear"
    period = whole(text, "attn_layer_period")
    if period:                                              # Jamba
        return "full" if at % period == whole(text, "attn_layer_offset") else "linear"
    interval = whole(text, "full_attention_interval")
    if interval or family in ("qwen3_next", "qwen3_5", "qwen3_5_moe"):
        return "full" if (at + 1) % (interval or 4) == 0 else "linear"
    if family in ("mamba", "mamba2", "falcon_mamba"):
        return "linear"
    return "sliding" if slides(text, family, at) else "full"


def slides(text: Mapping[str, Any], family: str, at: int) -> bool:
    """Return whether a layer sees only its window, by period of the family."""
    if not whole(text, "sliding_window", "sliding_window_size") or text.get("use_sliding_window") is False:
        return False
    if family.startswith("qwen2"):
        return text.get("use_sliding_window") is True and at >= whole(text, "max_window_layers")
    every = whole(text, "sliding_window_pattern", "_sliding_window_pattern") or EVERY.get(family, 0)
    if every in (0, 1):
        return every == 0
    # GPT-OSS and Gemma 2 begin with a window; the last of each group sees everything.
    return (at + 1) % every != 0


def state_parts(text: Mapping[str, Any], hidden: int) -> tuple[int, int]:
    """Return (convolution, recurrence) in elements: the two may be kept at different precisions."""
    if whole(text, "linear_num_value_heads"):               # gated delta net of Qwen3-Next
        keys = whole(text, "linear_num_key_heads") * whole(text, "linear_key_head_dim")
        values = whole(text, "linear_num_value_heads") * whole(text, "linear_value_head_dim")
        conv = (2 * keys + values) * max(0, whole(text, "linear_conv_kernel_dim") - 1)
        return conv, values * whole(text, "linear_key_head_dim")
    if whole(text, "conv_L_cache"):                         # short convolutions of LFM2
        return hidden * (whole(text, "conv_L_cache") - 1), 0
    heads, dim = whole(text, "mamba_n_heads", "mamba_num_heads"), whole(text, "mamba_d_head", "mamba_head_dim")
    kernel = whole(text, "mamba_d_conv", "conv_kernel") or 4
    size = whole(text, "mamba_d_state", "ssm_state_size", "state_size")
    if heads:                                               # Mamba 2
        groups = whole(text, "mamba_n_groups", "n_groups") or 1
        inner = heads * (dim or (whole(text, "mamba_expand") or 2) * hidden // heads)
        return (inner + 2 * groups * size) * (kernel - 1), inner * size
    inner = (whole(text, "mamba_expand", "expand") or 2) * hidden
    return (inner * (kernel - 1), inner * size) if size else (0, 0)
