"""A model's layers from whatever tells most of them: config.json, the installed file, the catalogue, or nothing.

Where the evidence leaves something open, the side that keeps more in the cache is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from orchestrator.decide.catalog import Catalog, Entry
from orchestrator.decide.ggufshape import from_gguf
from orchestrator.decide.shapes import Layer, Shape, from_config, whole
from orchestrator.facts import HubFact, Model

_STATE = 4 * 128        # elements of recurrence per hidden element: no family of the catalogue keeps more
_CONVOLUTION = 4 * 3 * 3


def shape_for(
    repo: str, catalog: Catalog, models: Iterable[Model] = (), facts: Iterable[HubFact] = ()
) -> Shape | None:
    """Return the layers of a repository's model; None when nothing tells them apart from `Numbers`.

    `models`: installed files that hold these weights. `facts`: what was seen of repositories.
    """
    for fact in facts:
        if fact.repo == repo and fact.config:
            seen = from_config(fact.config)
            if seen.known:
                return seen
    installed = list(models)
    for model in installed:
        if told_by_gguf(model.architecture):
            return from_gguf(model.architecture)
    known = catalog.by_repo(repo)
    return from_entry(known[0], installed[0].architecture if installed else {}) if known else None


def told_by_gguf(info: Mapping[str, Any]) -> bool:
    """Whether /api/show tells every layer: lists, such as heads per layer, are null there without `verbose`."""
    arch = str(info.get("general.architecture") or "")
    heads = info.get(f"{arch}.attention.head_count_kv")
    if not from_gguf(info).known or (heads is None and not arch.endswith("bert")):
        return False
    recurrent = any(key.startswith((f"{arch}.ssm.", f"{arch}.shortconv.")) for key in info)
    return not recurrent or isinstance(heads, list) or bool(
        whole(info, f"{arch}.full_attention_interval")) or arch == "falcon-h1"  # fmt: skip


def from_entry(entry: Entry, info: Mapping[str, Any] | None = None) -> Shape | None:
    """Return the layers of a catalogue entry; `info`: GGUF keys of the same model, for the states it may tell."""
    one = entry.numbers
    if not one.layers or not one.hidden:
        return None
    bare = Shape(
        kind=entry.architecture, hidden=one.hidden, heads=one.heads or 0, vocab=one.vocab or 0,
        intermediate=one.intermediate or 0, experts=one.experts or 0, vision=one.vision,
        max_context=one.max_context or 0, encoder=one.kv_token is None,
    )  # fmt: skip
    if one.kv_token is None:
        return replace(bare, layers=(Layer("none"),) * one.layers) if entry.task == "embed" else None
    if one.mla:
        width = one.kv_token // (2 * one.layers)
        return replace(bare, layers=(Layer("mla", 1, width),) * one.layers, latent=width)
    if not one.kv_heads or not one.head_dim:
        return None
    layers = tuple(_layer(entry, at) for at in range(one.layers))
    linear = any(layer.kind == "linear" for layer in layers)
    states = 2 if entry.architecture.startswith(("Qwen3", "Lfm2")) else 3
    return replace(bare, layers=layers, state=_state(entry, info or {}) if linear else (0, 0), states=states)


def _layer(entry: Entry, at: int) -> Layer:
    one, pattern = entry.numbers, entry.attention
    heads, dim = one.kv_heads or 0, one.head_dim or 0
    every, wide = pattern.get("every", 0), pattern.get("wide", dim)
    if "full" in pattern:
        # Which of them are full makes no difference to their sum.
        return Layer("full", heads, dim, dim) if at < pattern["full"] else Layer("linear")
    if "window" in pattern and every and (at + 1) % every:
        return Layer("sliding", heads, dim, dim, pattern["window"] + entry.architecture.startswith("Cohere2"))
    return Layer("full", heads, wide, wide)


def _state(entry: Entry, info: Mapping[str, Any]) -> tuple[int, int]:
    told = from_gguf(info).state
    if any(told):
        return told
    hidden = entry.numbers.hidden or 0
    # Short convolutions keep a few tokens and no recurrence.
    if entry.architecture.startswith("Lfm2"):
        return _CONVOLUTION * hidden, 0
    return _CONVOLUTION * hidden, _STATE * hidden
