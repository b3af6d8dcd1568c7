"""A model's parameters counted tensor by tensor from its config.json, and their bytes under a quantisation scheme.

No scheme quantises embeddings, head, norms, routers, convolutions or the vision tower: they stay at 16 bit.
Where GGUF tensors are given, their sizes are summed exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.decide.catalog import Numbers
from orchestrator.decide.shapes import Layer, Shape, from_config, text_part, whole

BITS = {    # per weight of a linear layer, with its scales and zero points
    "bf16": 16.0, "fp8": 8.0, "int8": 8.0, "int4": 4.156, "nvfp4": 4.5, "mxfp4": 4.25,
}  # fmt: skip
_GGML = {   # type name -> (weights per block, bytes per block), from ggml.c
    "F32": (1, 4), "F16": (1, 2), "BF16": (1, 2), "F64": (1, 8), "Q4_0": (32, 18), "Q4_1": (32, 20), "Q5_0": (32, 22),
    "Q5_1": (32, 24), "Q8_0": (32, 34), "Q2_K": (256, 84), "Q3_K": (256, 110), "Q4_K": (256, 144),
    "Q5_K": (256, 176), "Q6_K": (256, 210),
    "Q8_K": (256, 292), "IQ2_XXS": (256, 66), "IQ2_XS": (256, 74), "IQ3_XXS": (256, 98), "IQ1_S": (256, 50),
    "IQ4_NL": (32, 18), "IQ3_S": (256, 110), "IQ2_S": (256, 82), "IQ4_XS": (256, 136), "IQ1_M": (256, 56),
    "TQ1_0": (256, 54), "TQ2_0": (256, 66), "MXFP4": (32, 17), "I32": (1, 4), "I16": (1, 2), "I8": (1, 1),
}  # fmt: skip
# Two matrices instead of three: no gate.
_UNGATED = ("gpt2", "opt", "gpt_neox", "gpt_bigcode", "gptj", "phi", "starcoder2", "falcon", "bloom", "mpt", "bert",
            "roberta", "xlm-roberta", "nemotron", "nemotron_h")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Parameters:
    """Counts of weights. `dense` and `expert` are linear layers that a scheme may quantise; the rest never is."""

    embedding: int = 0
    head: int = 0
    dense: int = 0
    expert: int = 0
    other: int = 0          # norms, routers, biases, convolutions, positions
    vision: int = 0

    @property
    def total(self) -> int:
        return self.embedding + self.head + self.dense + self.expert + self.other + self.vision


@dataclass(frozen=True, slots=True)
class Estimate:
    """A range in bytes; a proof uses `high`, a report prints both."""

    low: int
    high: int

    def __str__(self) -> str:
        low, high = self.low / 2**30, self.high / 2**30
        return f"{high:.1f} GiB" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f}-{high:.1f} GiB"


def parameters(config: Mapping[str, Any]) -> Parameters:
    """Count the weights of the model that a Hugging Face config.json describes."""
    text, shape = text_part(config), from_config(config)
    table = shape.vocab * (whole(text, "word_embed_proj_dim", "embedding_size") or shape.hidden)
    positions = whole(text, "max_position_embeddings", "n_positions")
    learned = shape.kind in ("gpt2", "opt", "gpt_bigcode") or shape.encoder
    headless = shape.encoder or not any("LM" in str(one) or "Conditional" in str(one) for one in _classes(config))
    dense = expert = 0
    other = shape.hidden * (1 + learned * (positions + 2 * (shape.kind == "opt"))) + shape.encoder * 4 * shape.hidden
    for at, layer in enumerate(shape.layers):
        one = _attention(text, shape, layer)
        wide, routed, small = _feed_forward(text, shape, at)
        dense, expert, other = dense + one[0] + wide, expert + routed, other + one[1] + small
    if shape.beside:            # a Mamba mixer beside the attention of so many layers
        wide, small = _linear(text, shape)
        dense, other = dense + shape.beside * wide, other + shape.beside * small
    head = 0 if shape.tied or headless else table
    return Parameters(table, head, dense, expert, other, vision_parameters(config, shape.hidden))


def _classes(config: Mapping[str, Any]) -> list[Any]:
    named = config.get("architectures")
    return named if isinstance(named, list) and named else ["CausalLM"]


def _attention(text: Mapping[str, Any], shape: Shape, layer: Layer) -> tuple[int, int]:
    """Return (linear weights, small ones) of one layer's token mixing, with the layer's norms."""
    norms = (4 if shape.kind.startswith(("gemma2", "gemma3", "gemma4", "glm4")) else 2) * shape.hidden
    if layer.kind == "linear":
        wide, small = _linear(text, shape)
        return wide, small + norms
    if layer.kind == "mla":
        return _latent(text, shape), norms + whole(text, "kv_lora_rank") + whole(text, "q_lora_rank")
    if layer.kind == "none" and not shape.encoder:
        return 0, shape.hidden
    dim = layer.head_dim or shape.hidden // max(1, shape.heads)
    queries, kv = shape.heads * dim, (layer.kv_heads or shape.heads) * dim
    gate = 2 if shape.kind.startswith(("qwen3_next", "qwen3_5")) else 1
    biased = shape.kind.startswith("qwen2") or shape.kind in _UNGATED[:3] or text.get("attention_bias") is True
    out = 0 if shape.kind.startswith("qwen2") else shape.hidden
    bias = queries + 2 * kv + out if biased or shape.encoder else 0
    headed = 2 * dim if shape.kind.startswith(("qwen3", "gemma3", "gemma4", "olmo2", "lfm2")) else 0
    return shape.hidden * (queries * gate + 2 * kv + queries), norms + bias + headed


def _latent(text: Mapping[str, Any], shape: Shape) -> int:
    rank, rope = whole(text, "kv_lora_rank"), whole(text, "qk_rope_head_dim")
    nope, value, low = whole(text, "qk_nope_head_dim"), whole(text, "v_head_dim"), whole(text, "q_lora_rank")
    if "q_lora_rank" not in text and shape.kind.startswith("deepseek"):     # null says none, absence the default
        low = 1536
    ask = shape.heads * (nope + rope)
    queries = shape.hidden * low + low * ask if low else shape.hidden * ask
    values = rank * shape.heads * (nope + value) + shape.heads * value * shape.hidden
    return queries + shape.hidden * (rank + rope) + values


def _linear(text: Mapping[str, Any], shape: Shape) -> tuple[int, int]:
    hidden = shape.hidden
    if whole(text, "linear_num_value_heads"):
        keys = whole(text, "linear_num_key_heads") * whole(text, "linear_key_head_dim")
        count, dim = whole(text, "linear_num_value_heads"), whole(text, "linear_value_head_dim")
        wide = hidden * (2 * keys + 2 * count * dim + 2 * count) + count * dim * hidden
        return wide, (2 * keys + count * dim) * whole(text, "linear_conv_kernel_dim") + 2 * count + dim
    if whole(text, "conv_L_cache"):
        return 4 * hidden * hidden, hidden * whole(text, "conv_L_cache")
    heads, size = whole(text, "mamba_n_heads", "mamba_num_heads"), whole(text, "mamba_d_state", "ssm_state_size")
    kernel = whole(text, "mamba_d_conv", "conv_kernel") or 4
    if heads:
        dim = whole(text, "mamba_d_head", "mamba_head_dim") or (whole(text, "mamba_expand") or 2) * hidden // heads
        inner, wide = heads * dim, 2 * (whole(text, "mamba_n_groups", "n_groups") or 1) * size
        return hidden * (2 * inner + wide + heads) + inner * hidden, (inner + wide) * (kernel + 1) + 3 * heads + inner
    inner, size = (whole(text, "mamba_expand", "expand") or 2) * hidden, size or whole(text, "state_size") or 16
    rank = whole(text, "mamba_dt_rank", "time_step_rank") or math.ceil(hidden / 16)
    return 3 * hidden * inner + inner * (2 * rank + 2 * size), inner * (kernel + 3 + size)


def _feed_forward(text: Mapping[str, Any], shape: Shape, at: int) -> tuple[int, int, int]:
    """Return (dense weights, expert weights, router and biases) of one layer's feed-forward part."""
    hidden = shape.hidden
    matrices = 2 if shape.kind in _UNGATED else 3
    pattern = text.get("hybrid_override_pattern")
    if isinstance(pattern, str) and at < len(pattern) and pattern[at] in "M*":
        return 0, 0, 0
    if shape.experts and _routed(text, shape.kind, at):
        width = whole(text, "moe_intermediate_size") or shape.intermediate
        if shape.kind.startswith("llama4"):
            width = shape.intermediate
        biases = shape.experts * (2 * width + hidden + 1) if shape.kind == "gpt_oss" else 0
        router = hidden * shape.experts + (shape.experts if text.get("topk_method") == "noaux_tc" else 0)
        shared = _shared(text, shape, width)
        gate = hidden if whole(text, "shared_expert_intermediate_size") else 0
        return 3 * hidden * shared, shape.experts * 3 * hidden * width, router + gate + biases
    width = _width(text, shape)
    bias = width + hidden if matrices == 2 and not shape.kind.startswith("nemotron") else 0
    return matrices * hidden * width, 0, bias


def _width(text: Mapping[str, Any], shape: Shape) -> int:
    if shape.kind.startswith("llama4") and shape.experts:
        return whole(text, "intermediate_size_mlp") or shape.intermediate
    if shape.kind.startswith("granitemoe"):
        return whole(text, "shared_intermediate_size") or shape.intermediate
    if shape.kind.startswith("lfm2") and text.get("block_auto_adjust_ff_dim") is True:
        multiple, scale = whole(text, "block_multiple_of") or 256, text.get("block_ffn_dim_multiplier")
        two_thirds = int(2 * whole(text, "block_ff_dim", "intermediate_size") / 3)
        wide = int(scale * two_thirds) if isinstance(scale, int | float) else two_thirds
        return multiple * math.ceil(wide / multiple)
    return whole(text, "block_ff_dim") if shape.kind == "lfm2" and whole(text, "block_ff_dim") else shape.intermediate


def _shared(text: Mapping[str, Any], shape: Shape, width: int) -> int:
    """Return the width of the experts that every token takes."""
    given = whole(text, "shared_expert_intermediate_size", "shared_intermediate_size")
    return given or whole(text, "n_shared_experts", "num_shared_experts") * width or (
        width if shape.kind.startswith("llama4") else 0
    )


def _routed(text: Mapping[str, Any], kind: str, at: int) -> bool:
    """Return whether a layer has experts; the others have a dense feed-forward part."""
    only = text.get("mlp_only_layers")
    if isinstance(only, list) and at in only:
        return False
    if at < whole(text, "first_k_dense_replace", "num_dense_layers"):
        return False
    period = whole(text, "expert_layer_period")
    if period:
        return at % period == whole(text, "expert_layer_offset")
    step = whole(text, "decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_freq") or 1
    return at % step == 0 if kind.startswith("deepseek") else (at + 1) % step == 0


def vision_parameters(config: Mapping[str, Any], hidden: int) -> int:
    """Return the weights of a vision tower and its projector, roughly (a percent of most models)."""
    part = config.get("vision_config") or config.get("visual")
    if not isinstance(part, Mapping):
        return 0
    width = whole(part, "hidden_size", "embed_dim", "width")
    inner = whole(part, "intermediate_size") or int(4 * width)
    depth = whole(part, "num_hidden_layers", "depth", "layers")
    matrices = 3 if str(part.get("hidden_act", "")) == "silu" else 2
    merge = (whole(part, "spatial_merge_size") or 1) ** 2
    patches = 3 * (whole(part, "patch_size") or 14) ** 2 * (whole(part, "temporal_patch_size") or 1) * width
    merger = (width * merge) ** 2 + width * merge * hidden if merge > 1 else width * hidden
    return depth * (4 * width * width + matrices * width * inner) + patches + merger


def size(counted: Parameters, kind: str, tensor_parallel: int = 1) -> Estimate:
    """Return the bytes per GPU of weights whose linear layers are of this kind (see BITS).

    The low end is the sum of the tensors. The high end adds what loaders pad and keep twice: 1 %, with tensor
    parallelism 3 %, and for quantised weights the layers that most recipes leave alone.
    """
    bits = BITS.get(kind, 16.0)
    # MXFP4 as published (GPT-OSS) quantises the experts only.
    quantised = counted.expert if kind == "mxfp4" and counted.expert else counted.dense + counted.expert
    wide = counted.total - quantised
    low = (quantised * bits / 8 + wide * 2) / max(1, tensor_parallel)
    extra = (1.03 if tensor_parallel > 1 else 1.01) + (0.02 if bits < 16 else 0.0)
    return Estimate(math.floor(low), math.ceil(low * extra))


STORED = {  # bits per weight of the linear layers as repositories are published, scales included
    "bf16": 16.0, "fp8": 8.06, "int8": 8.25, "int4": 4.2, "nvfp4": 4.5, "mxfp4": 4.25,
}  # fmt: skip
_TOWER = 1228 * 2**20       # a vision tower stays at 16 bit
_FILLED = 1.06              # kernels for MXFP4 fill the experts' sides up to round numbers


def stored(numbers: Numbers, kind: str, *, embed: bool = False) -> float:
    """Return the bytes of a model whose linear layers are of this kind, from its size and dimensions alone.

    Embeddings and head stay at 16 bit, and where only experts are quantised (MXFP4) attention does.
    """
    count = (numbers.params_b or 0) * 1e9
    bits = STORED.get(kind, 16.0)
    if bits >= 16:
        return count * 2
    copies = 1 if embed or numbers.tied else 2
    wide = 1.0 * copies * (numbers.vocab or 0) * (numbers.hidden or 0)
    if kind == "mxfp4" and numbers.moe:
        wide += attention(numbers)
    tower = min(_TOWER, count) if numbers.vision else 0
    wide = min(count, wide + tower / 2)
    return wide * 2 + (count - wide) * bits / 8


def loaded(kind: str, tensor_parallel: int = 1) -> float:
    """Return by how much weights grow at most when they are loaded: padding, and what ranks hold twice."""
    return (1.03 if tensor_parallel > 1 else 1.01) * (_FILLED if kind == "mxfp4" else 1.0)


def attention(numbers: Numbers) -> int:
    """Return the weights of all attention layers; 0 where the dimensions are not known."""
    heads, dim = numbers.heads or 0, numbers.head_dim or 0
    one = 2 * (numbers.hidden or 0) * dim * (heads + (numbers.kv_heads or heads))
    return (numbers.layers or 0) * one if heads and dim else 0


def gguf_bytes(tensors: Iterable[Mapping[str, Any]]) -> int | None:
    """Return the exact bytes of GGUF tensors (`name`, `type`, `shape` as /api/show lists them); None: unknown type."""
    total = 0
    for one in tensors:
        block = _GGML.get(str(one.get("type") or "").upper())
        sides = one.get("shape")
        if block is None or not isinstance(sides, list) or not all(isinstance(side, int) for side in sides):
            return None
        total += math.prod(sides) // block[0] * block[1]
    return total
