"""The dimensions of a model as its GGUF file states them, and whether they are those of a repository."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

from orchestrator.decide.catalog import Numbers
from orchestrator.facts import Model

_COMPARED = {
    "layers": "layers", "hidden": "hidden size", "heads": "attention heads", "kv_heads": "KV heads",
    "head_dim": "head dimension", "intermediate": "feed-forward size", "vocab": "vocabulary", "experts": "experts",
    "latent": "latent KV bytes per token and layer",
}  # fmt: skip


_UNITS = {"K": 1e-6, "M": 1e-3, "B": 1.0, "T": 1e3}
_PROJECTOR_B = 0.64     # a vision tower that Ollama keeps in a file of its own, which parameter_count leaves out


def installed(model: Model) -> Numbers:
    """Return an installed model's shape; its parameters from /api/show's words (8.0B) where the count is missing."""
    found = gguf_numbers(model.architecture)
    size = re.fullmatch(r"\s*(\d{1,6}(?:\.\d{1,6})?)\s*([KMBT])\s*", model.parameter_size, re.IGNORECASE)
    if found.params_b is None and size and float(size[1]):
        found = replace(found, params_b=float(size[1]) * _UNITS[size[2].upper()])
    if "vision" in model.capabilities and not found.vision:
        found = replace(found, vision=True, params_b=found.params_b + _PROJECTOR_B if found.params_b else None)
    return found


def gguf_numbers(info: dict[str, Any]) -> Numbers:
    """Return a model's shape from the GGUF keys that /api/show reports; what is no number is not known."""
    arch = str(info.get("general.architecture", ""))

    def number(key: str) -> int | None:
        return _whole(info.get(f"{arch}.{key}"))

    blocks, hidden, heads = number("block_count"), number("embedding_length"), number("attention.head_count")
    layers = blocks - (number("nextn_predict_layers") or 0) if blocks else None
    kv_heads, caching = _kv_heads(info.get(f"{arch}.attention.head_count_kv"), layers)
    interval = number("full_attention_interval")
    caching = caching // interval if caching and interval else caching
    # Gemma 4 has wider heads in its few global layers; config.json's head_dim is that of the sliding ones.
    stated = number("attention.key_length_swa") or number("attention.key_length")
    head_dim = stated or (hidden // heads if hidden and heads else None)
    latent = number("attention.kv_lora_rank")
    count = info.get("general.parameter_count")
    kv = 4 * caching * kv_heads * head_dim if caching and kv_heads and head_dim else None
    if latent and layers:
        kv = 2 * layers * (latent + (number("rope.dimension_count") or 64))
    real = isinstance(count, int | float) and not isinstance(count, bool) and math.isfinite(count) and count > 0
    return Numbers(
        params_b=count / 1e9 if real else None,     # type: ignore[operator]
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        hidden=hidden,
        intermediate=number("feed_forward_length"),
        vocab=number("vocab_size"),
        kv_token=kv,
        max_context=number("context_length"),
        mla=latent is not None,
        vision=number("vision.block_count") is not None,
        experts=number("expert_count"),
        hybrid=bool(caching and layers and caching < layers),
    )


def _whole(value: Any) -> int | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value <= 0:
        return None
    return int(value)


def _kv_heads(value: Any, layers: int | None) -> tuple[int | None, int | None]:
    """Return KV heads and how many layers keep a cache; a list has one number per layer, 0 for those without."""
    if isinstance(value, list):
        heads = [one for one in map(_whole, value) if one]
        return (max(heads), len(heads)) if heads else (None, None)
    return _whole(value), layers


def disagreements(ours: Numbers, theirs: Numbers) -> list[str]:
    """Return the dimensions in which the installed file and the repository differ, with both numbers.

    Left out: what the two sides count differently (heads with latent attention, the width of experts).
    """
    found = []
    for key, label in _COMPARED.items():
        if key in _incomparable(theirs):
            continue
        here, there = _value(ours, key), _value(theirs, key)
        if here and there and here != there:
            found.append(f"{label} {here} here, {there} there")
    return found


def _value(numbers: Numbers, key: str) -> int | None:
    if key != "latent":
        found: int | None = getattr(numbers, key)
        return found
    return numbers.kv_token // numbers.layers if numbers.mla and numbers.kv_token and numbers.layers else None


def _incomparable(theirs: Numbers) -> set[str]:
    if theirs.mla:
        return {"kv_heads", "head_dim", "intermediate"}
    return {"intermediate"} if theirs.moe or theirs.hybrid else set()


def similar(one: float | None, other: float | None) -> bool:
    """Tell whether two parameter counts may be the same model; what is not known may be."""
    return not one or not other or abs(one - other) < 0.15 * other
