"""Bytes of KV cache as vLLM 0.32 counts them (v1/kv_cache_interface.py, v1/core/kv_cache_utils.py), from a shape.

Per layer and token: KV heads of this rank x (head size of K + of V) x bytes. MLA keeps one latent vector and every
tensor-parallel rank holds all of it; a sliding window keeps its window and the tokens in flight; a linear layer a
few states per sequence. Layers of different kinds share one pool of equal blocks, so that some room is padding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from orchestrator.decide.shapes import Layer, Shape

BLOCK = 16      # tokens per block on CUDA; the CPU build takes 128


@dataclass(frozen=True, slots=True)
class Cache:
    """How a cache is kept: bytes per element, tensor-parallel ranks, tokens per block, tokens of one batch."""

    element: float = 2.0
    tensor_parallel: int = 1
    block: int = BLOCK
    batched_tokens: int = 2048
    batches: int = 2    # in flight at once: vLLM schedules the next step while one runs, and frees blocks after it
    drafted: int = 0    # speculative tokens: a state each beside those that a linear layer keeps


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
    # The convolution's groups are repeated on ranks that would have none: it is small, and counted whole.
    return 2 * convolution + 4 * recurrence / max(1, (cache or Cache()).tensor_parallel)


@dataclass(frozen=True, slots=True)
class _Pool:
    """How vLLM lays layers of several kinds into blocks of one size: `width` layers of a group share a block."""

    page: float                                     # bytes of one layer in one block
    width: int                                      # layers per group, with padding
    groups: tuple[tuple[Layer, int, int], ...]      # a layer of the kind, its number of groups, tokens per block


def sequence_bytes(shape: Shape, tokens: int, cache: Cache | None = None) -> int:
    """Return the bytes that one sequence of `tokens` needs, in whole blocks, as vLLM admits it.

    In a hybrid model vLLM widens the attention blocks until one holds a whole state, and pads the state to it.
    """
    used = cache or Cache()
    kept = _kept(shape)
    if len({(one.kind, one.window) for one in kept}) < 2 and not _states(shape):
        block = _block(kept, used, 0.0)
        return math.ceil(sum(blocks(one, tokens, used, block) * block * layer_token(one, used) for one in kept))
    pool = _pool(shape, used)
    states = shape.states + used.drafted
    total = sum(count * (states if one.kind == "linear" else blocks(one, tokens, used, block))
                for one, count, block in pool.groups)  # fmt: skip
    return math.ceil(total * pool.width * pool.page)


def null_block(shape: Shape, cache: Cache | None = None) -> int:
    """Return the bytes of the one block of the pool that vLLM never hands out."""
    pool = _pool(shape, cache or Cache())
    return math.ceil(pool.page * pool.width)


def _kept(shape: Shape) -> list[Layer]:
    return [one for one in shape.layers if one.kind not in ("none", "linear", "shared")]


def _states(shape: Shape) -> int:
    """Return how many layers keep a state; those that run beside attention count too."""
    return sum(one.kind == "linear" for one in shape.layers) + shape.beside if any(shape.state) else 0


def _block(kept: list[Layer], cache: Cache, state: float) -> int:
    """Return the tokens per block: enough for one state in one layer's page, in the kernels' steps."""
    step = max(cache.block, 128) if state and any(one.kind == "mla" for one in kept) else cache.block
    widest = max((layer_token(one, cache) for one in kept), default=0.0)
    return max(1, math.ceil(state / widest / step)) * step if state and widest else step


def _pool(shape: Shape, cache: Cache) -> _Pool:
    kept, count = _kept(shape), _states(shape)
    state = state_bytes(shape, cache) if count else 0.0
    block = _block(kept, cache, state)
    page = max([state, *(block * layer_token(one, cache) for one in kept)])
    found: dict[tuple[str, int, int], list[Layer]] = {}
    for one in kept:
        own = block * layer_token(one, cache)
        # A smaller page takes more tokens where that comes out even, else it is padded.
        length = block * int(page // own) if own and page % own == 0 else block
        found.setdefault((one.kind, one.window, length), []).append(one)
    if count:
        found[("linear", 0, block)] = [Layer("linear")] * count
    sizes = [len(layers) for layers in found.values()]
    if not sizes:
        return _Pool(0.0, 0, ())
    width = max(sizes) if max(sizes) < 1.5 * min(sizes) else min(sizes)
    groups = tuple((layers[0], math.ceil(len(layers) / width), key[2]) for key, layers in found.items())
    return _Pool(page, width, groups)


def blocks(layer: Layer, tokens: int, cache: Cache, block: int) -> int:
    """Return the blocks of one sequence in one layer; a window needs one more, as it need not begin at a block."""
    if layer.kind != "sliding":
        return math.ceil(tokens / block)
    return math.ceil(min(layer.window - 1 + cache.batches * cache.batched_tokens, tokens) / block) + 1
