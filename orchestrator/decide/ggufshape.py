"""The shape of a model, layer by layer, from the keys of a GGUF file; wrong or missing values never raise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.decide.shapes import EVERY, Layer, Shape, whole


def from_gguf(info: Mapping[str, Any]) -> Shape:
    """Return the shape that the GGUF keys of /api/show describe; arrays may be missing (null without `verbose`)."""
    arch = str(info.get("general.architecture") or "")
    keys = {key.removeprefix(arch + "."): value for key, value in info.items() if str(key).startswith(arch + ".")}
    hidden, heads = whole(keys, "embedding_length"), _first(keys.get("attention.head_count"))
    count = max(0, whole(keys, "block_count") - whole(keys, "nextn_predict_layers"))
    latent = whole(keys, "attention.kv_lora_rank")
    tokens = info.get("tokenizer.ggml.tokens")
    return Shape(
        kind=arch,
        layers=tuple(_gguf_layer(keys, arch, at, hidden, heads) for at in range(min(count, 1024))),
        hidden=hidden,
        heads=heads,
        vocab=whole(keys, "vocab_size") or (len(tokens) if isinstance(tokens, list) else 0),
        intermediate=_first(keys.get("feed_forward_length")) or 4 * hidden,
        experts=whole(keys, "expert_count"),
        experts_used=whole(keys, "expert_used_count"),
        latent=latent + (whole(keys, "rope.dimension_count") or 64) if latent else 0,
        state=_gguf_state(keys),
        states=2 if whole(keys, "full_attention_interval", "shortconv.l_cache") else 3,
        beside=min(count, 1024) if arch == "falcon-h1" else 0,
        vision=any(key.startswith("vision.") for key in keys),
        max_context=whole(keys, "context_length"),
        encoder=arch.endswith("bert"),
    )


def _first(value: object) -> int:
    """Return a number, or the largest of a list of numbers."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return max((whole({"": one}, "") for one in value), default=0)
    return whole({"": value}, "")


def _gguf_layer(keys: Mapping[str, Any], arch: str, at: int, hidden: int, heads: int) -> Layer:
    if arch.endswith("bert"):
        return Layer("none")
    if whole(keys, "attention.kv_lora_rank"):
        rope = whole(keys, "rope.dimension_count") or 64
        return Layer("mla", 1, whole(keys, "attention.kv_lora_rank") + rope, 0)
    kv = keys.get("attention.head_count_kv")
    if isinstance(kv, list):
        count = whole({"": kv[at] if at < len(kv) else None}, "")
        if not count:
            return Layer("linear")
    else:
        count = whole(keys, "attention.head_count_kv") or heads
    interval = whole(keys, "full_attention_interval")
    if interval and (at + 1) % interval:
        return Layer("linear")
    window = whole(keys, "attention.sliding_window") if _gguf_slides(keys, arch, at) else 0
    window += bool(window) and arch == "cohere2"            # it sees one token more
    shared = whole(keys, "attention.shared_kv_layers")      # the last ones, in Gemma 3n and 4
    if shared and at >= whole(keys, "block_count") - shared:
        return Layer("shared", count, 0, 0)
    near = ("attention.key_length_swa",) if window else ()
    dim = whole(keys, *near, "attention.key_length") or (hidden // heads if heads else 0)
    near = ("attention.value_length_swa",) if window else ()
    value = whole(keys, *near, "attention.value_length") or dim
    return Layer("sliding" if window else "full", count, dim, value, window)


def _gguf_slides(keys: Mapping[str, Any], arch: str, at: int) -> bool:
    pattern = keys.get("attention.sliding_window_pattern")
    if isinstance(pattern, list) and pattern:
        return bool(pattern[at % len(pattern)])
    # Gemma 4 has two patterns, and without `verbose` the list is not told: the one that keeps more.
    every = whole(keys, "attention.sliding_window_pattern") or (5 if arch == "gemma4" else EVERY.get(arch, 0))
    return every > 1 and (at + 1) % every != 0


def _gguf_state(keys: Mapping[str, Any]) -> tuple[int, int]:
    inner, size, kernel = whole(keys, "ssm.inner_size"), whole(keys, "ssm.state_size"), whole(keys, "ssm.conv_kernel")
    if inner and size:
        return max(0, kernel - 1) * (inner + 2 * whole(keys, "ssm.group_count") * size), inner * size
    return whole(keys, "embedding_length") * max(0, whole(keys, "shortconv.l_cache") - 1), 0
