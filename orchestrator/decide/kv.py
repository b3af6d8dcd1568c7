"""Bytes of KV cache as vLLM 0.32 counts them (v1/kv_cache_interface.py), from a model's shape.

Per layer and token: KV heads of this rank x (head size of K + of V) x bytes. MLA keeps one latent vector and every
tensor-parallel rank holds all of it; a sliding window keeps its window; a linear layer one state per sequence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from orchestrator.decide.shapes import Layer, Shape

BLOCK = 16      # tokens per block on CUDA; the CPU build takes 128


@dataclass(frozen=True, slots=True)
class Cache:
    """How a cache is kept: bytes per element, tensor-parallel ranks, tokens per block, tokens in flight at once."""

    element: float = 2.0
    tensor_parallel: int = 1
    block: int = BLOCK
    batched_tokens: int = 2048
    states: int = 3     # of a linear layer per sequence: prefix caching keeps two and one checkpoint


def element_bytes(kv_dtype: str) -> float:
    """Return the bytes of one cached element for a --kv-cache-dtype (auto: 16 bit)."""
    low = kv_dtype.lower()
    return 1.0 if low.startswith(("fp8", "int8")) else 0.5625 if "nvfp4" in low else 4.0 if low == "float32" else 2.0


def layer_token(layer: Layer, cache: Cache) -> float:
    """Return the bytes that one token takes in one layer on one rank; 0 where nothing is kept per token."""
    if layer.kind in ("none", "linear", "shared"):
        return 0.0
    if layer.kind == "mla":
        return layer.head_dim * cache.element
    heads = max(1, layer.kv_heads // max(1, cache.tensor_parallel))
    return heads * (layer.head_dim + layer.v_head_dim) * cache.element


def token_bytes(shape: Shape, cache: Cache | None = None, kind: str = "") -> float:
    """Return the bytes per token and rank of all layers, or of the layers of one kind."""
    used = cache or Cache()
    return sum(layer_token(one, used) for one in shape.layers if not kind or one.kind == kind)


def groups(shape: Shape, cache: Cache | None = None) -> dict[str, tuple[int, float]]:
    """Return kind -> (layers, bytes per token of all of them): what the report prints."""
    found = {}
    for kind in ("full", "sliding", "mla", "linear", "shared", "none"):
        count = sum(one.kind == kind for one in shape.layers)
        if count:
            found[kind] = (count, token_bytes(shape, cache, kind))
    return found


def state_bytes(shape: Shape, cache: Cache | None = None) -> float:
    """Return the bytes of one state of one linear layer on one rank: convolution at 16 bit, recurrence at 32."""
    convolution, recurrence = shape.state
    return (2 * convolution + 4 * recurrence) / max(1, (cache or Cache()).tensor_parallel)


def sequence_bytes(shape: Shape, tokens: int, cache: Cache | None = None) -> int:
    """Return the bytes that one sequence of `tokens` needs, in whole blocks, as vLLM admits it.

    In a hybrid model vLLM widens the attention blocks until one holds a whole state, and pads the state to it.
    """
    used = cache or Cache()
    kept = max((layer_token(one, used) for one in shape.layers), default=0.0)
    state = state_bytes(shape, used) if any(one.kind == "linear" for one in shape.layers) else 0.0
    block = used.block
    if state and kept:
        block = max(block, math.ceil(state / kept / used.block) * used.block)
        state = max(state, block * kept)
    total = 0.0
    for one in shape.layers:
        linear = one.kind == "linear"
        total += state * used.states if linear else blocks(one, tokens, used, block) * block * layer_token(one, used)
    return math.ceil(total)


def blocks(layer: Layer, tokens: int, cache: Cache, block: int) -> int:
    """Return the blocks of one sequence in one layer; a window needs one more, as it need not begin at a block."""
    if layer.kind != "sliding":
        return math.ceil(tokens / block)
    return math.ceil(min(layer.window - 1 + cache.batched_tokens, tokens) / block) + 1
