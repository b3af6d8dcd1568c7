"""Memory while weights load: more than afterwards only where 16-bit weights are quantised on the way."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from orchestrator.decide.alternatives import QUANTISED
from orchestrator.decide.catalog import Catalog
from orchestrator.decide.vram import Ask, GpuBudget, Share, family, gib
from orchestrator.spec import Spec
from orchestrator.spec_engine import Engine


def loading_bytes(ask: Ask, flag: str) -> int:
    """Return the bytes per GPU while weights load, before there is any cache. `flag`: --quantization, or empty.

    vLLM 0.32 makes FP8 one layer at a time (vllm#31914: peak near the 8-bit size); two layers at 16 bit are kept
    free for it. Nobody has published the same for the other schemes, so they get the whole 16 bit.
    """
    if not flag:
        return ask.weights()
    wide = replace(ask, scheme="bf16").weights()
    if flag != "fp8":
        return max(wide, ask.weights())
    return min(max(wide, ask.weights()), ask.weights() + math.ceil(2 * wide / max(1, ask.numbers.layers or 1)))


def made_on_load(engine: Engine, catalog: Catalog) -> bool:
    """Tell whether vLLM quantises this engine's 16-bit weights itself, as far as the catalogue knows them."""
    known = catalog.by_repo(engine.repo)
    wide = known is not None and family(known[1]) == "bf16" and not QUANTISED.search(engine.repo)
    return bool(engine.quantization) and wide


def download_bytes(share: Share, engine: Engine, catalog: Catalog) -> int:
    """Return the bytes that are fetched for an engine: of 16-bit weights all, whatever is made of them."""
    ask = replace(share.ask, scheme="bf16") if made_on_load(engine, catalog) else share.ask
    return ask.weights() * ask.tensor_parallel


def loading_problems(spec: Spec, budgets: Iterable[GpuBudget], catalog: Catalog) -> tuple[str, ...]:
    """Return the engines that would not get through their load, with all others resident; one sentence each."""
    found = {}
    for budget in budgets:
        for share in budget.shares:
            engine = spec.engines[share.ask.name]
            if not made_on_load(engine, catalog):
                continue
            room = budget.left - budget.spare + share.requested
            needed = loading_bytes(share.ask, engine.quantization or "")
            if needed > room:
                found[share.ask.name] = (
                    f"engine {share.ask.name}: 16-bit weights that are made {engine.quantization} on load take up to "
                    f"{gib(needed)} meanwhile; GPU {budget.gpu} has room for {gib(room)}"
                )
    return tuple(found.values())
