"""Makes room in a proposal for what was laid over it: LoRA slots, a draft model, larger steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from orchestrator.decide.budget import proof
from orchestrator.decide.catalog import Catalog
from orchestrator.decide.effective import effective
from orchestrator.decide.vram import MAX_PER_MILLE, MIB, GpuBudget, Share
from orchestrator.facts import Facts
from orchestrator.spec import Spec

_STEP = 64 * MIB


def settled(spec: Spec, facts: Facts, catalog: Catalog, overrides: Mapping[str, Any]) -> Spec:
    """Return the proposal with more of the GPU for an engine that needs it, else with less cache.

    What the overrides or the engine's own flags say of either stays; where nothing fits, the proof says so.
    """
    for name in spec.engines:
        budgets = [(one, share) for one in proof(spec, facts, catalog).budgets
                   for share in one.shares if share.ask.name == name]  # fmt: skip
        if any(share.needed > share.requested for _, share in budgets):
            spec = _with(spec, name, _change(spec, name, budgets, _fixed(spec, name, overrides)))
    return spec


def remedy(spec: Spec, facts: Facts, catalog: Catalog) -> str:
    """Return what to write into a stack file that does not fit, so that it does; empty where these keys do not help."""
    found = settled(spec, facts, catalog, {})
    if found == spec or proof(found, facts, catalog).problems:
        return ""
    changed = []
    for name, engine in found.engines.items():
        before = spec.engines[name]
        keys = [f"gpu_memory_utilization: {engine.gpu_memory_utilization:g}"] \
            if engine.gpu_memory_utilization != before.gpu_memory_utilization else []  # fmt: skip
        keys += [f"kv_cache: {engine.kv_cache // MIB}MiB"] if engine.kv_cache != before.kv_cache else []
        changed += [f"engines/{name}: {', '.join(keys)}"] if keys else []
    return "; ".join(changed)


def _fixed(spec: Spec, name: str, overrides: Mapping[str, Any]) -> set[str]:
    said = (overrides.get("engines") or {}).get(name) or {}
    engine = spec.engines[name]
    own = effective(engine)
    return {key for key in ("gpu_memory_utilization", "kv_cache")
            if key in said or getattr(own, key) != getattr(engine, key)}  # fmt: skip


def _change(spec: Spec, name: str, budgets: list[tuple[GpuBudget, Share]], fixed: set[str]) -> dict[str, Any]:
    engine = spec.engines[name]
    share = engine.gpu_memory_utilization
    if "gpu_memory_utilization" not in fixed:
        share = max(share, min(_utilization(one, mine) for one, mine in budgets))
    short = max(mine.needed - math.ceil(one.total * share) for one, mine in budgets)
    found: dict[str, Any] = {"gpu_memory_utilization": share}
    if short <= 0:
        return found
    cache = engine.kv_cache - -(-short // _STEP) * _STEP
    if "kv_cache" in fixed or cache < max(mine.ask.one_sequence() for _, mine in budgets):
        return {}
    return found | {"kv_cache": cache}


def _utilization(budget: GpuBudget, share: Share) -> float:
    """Return what the engine needs of this GPU, or as much as there is, in thousandths."""
    most = min(share.requested + budget.left - budget.spare, budget.total * MAX_PER_MILLE // 1000)
    if share.needed <= most:
        wanted = -(-share.needed * 1000 // budget.total)
        return min(wanted, most * 1000 // budget.total) / 1000
    return max(0, most) * 1000 // budget.total / 1000


def _with(spec: Spec, name: str, change: dict[str, Any]) -> Spec:
    return spec.model_copy(update={"engines": {**spec.engines, name: spec.engines[name].model_copy(update=change)}})
