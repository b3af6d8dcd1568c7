"""A first spec for an installation that has none: what moves, what stays, where each engine goes, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, field
from typing import Any

from orchestrator.decide import today
from orchestrator.decide.alternatives import others
from orchestrator.decide.budget import Proof, proof
from orchestrator.decide.catalog import Catalog, load
from orchestrator.decide.enginespec import engine, free_name, pinned, route, sections
from orchestrator.decide.handover import Handover
from orchestrator.decide.ladder import Refused, World, refusals
from orchestrator.decide.mapping import Mapping
from orchestrator.decide.search import Wanted, search, wanted_of
from orchestrator.decide.settle import settled
from orchestrator.decide.shared import map_models
from orchestrator.decide.vram import GIB
from orchestrator.facts import Facts
from orchestrator.names import canonical, slug
from orchestrator.spec import Spec, parse_spec
from orchestrator.spec_needs import Needs

_CPU_IMAGE = "public.ecr.aws/q9t5s3a7/vllm-cpu-release-repo:v0.32.0"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A spec, and why it says what it says. `stays`: model to reason; `engines`: engine to reasons.

    `recipes`: scripts that make weights which nobody has published, by file name; `handovers`: models that could
    only take turns with Ollama.
    """

    spec: Spec
    engines: dict[str, tuple[str, ...]]
    stays: dict[str, str]
    notes: tuple[str, ...]
    proof: Proof
    recipes: dict[str, str] = field(default_factory=dict)
    handovers: tuple[Handover, ...] = ()


def propose(
    name: str,
    facts: Facts,
    models: tuple[str, ...] | None = None,
    overrides: MappingType[str, Any] | None = None,
    catalog: Catalog | None = None,
    needs: Needs | None = None,
) -> Proposal:
    """Return a spec and its reasons. `models`: only these; `overrides`: laid over the proposal, key by key.

    A repository, or `accelerator: cpu`, that the overrides name is planned with. Raises UsageError when the
    whole is no valid spec.
    """
    catalog, overrides = catalog or load(), overrides or {}
    moving, stays = sorted_out(facts, models, catalog, overrides)
    wanted, told, why = wanted_of(facts)
    notes, refused = [told], Refused()
    if overrides.get("accelerator") == "cpu":
        data, engines = _on_cpu(moving, min(wanted.context, 8192))
    elif not _usable(facts):
        notes.append(facts.gpu_problem or "no GPU that vLLM can use: its CPU build is proposed, for a rehearsal")
        data, engines = _on_cpu(moving, min(wanted.context, 8192))
    else:
        notes.append(why)
        data, engines, refused = _on_gpus(moving, facts, catalog, wanted, notes, needs or Needs())
        stays |= refused.stays
    data = {"version": 1, "name": name, **today.around(facts, data.pop("ollama", {}), notes), **data}
    spec = parse_spec(json.dumps(_laid_over(data, overrides)), "the proposal")
    spec = settled(spec, facts, catalog, overrides)
    stays = {model: why for model, why in stays.items() if model not in spec.migrating()}
    sums = proof(spec, facts, catalog)
    return Proposal(spec, engines, stays, tuple(notes), sums, refused.recipes, refused.handovers)


def _usable(facts: Facts) -> bool:
    return any(gpu.compute_capability >= 7.5 for gpu in facts.gpus)


def _given(model: str, overrides: MappingType[str, Any]) -> str | None:
    """Return the repository that the overrides name for a model: of its route's engine, or of its name's."""
    engines, routes = overrides.get("engines") or {}, overrides.get("routes") or {}
    engine = (routes.get(model) or {}).get("engine") or slug(model)
    repo = (engines.get(engine) or {}).get("repo")
    return repo if isinstance(repo, str) else None


def sorted_out(
    facts: Facts, models: tuple[str, ...] | None, catalog: Catalog, overrides: MappingType[str, Any]
) -> tuple[list[Mapping], dict[str, str]]:
    """Return the models that can move, mapped, and those that stay with the reason."""
    wanted = None if models is None else {canonical(model) for model in models}
    moving, stays = [], {}
    named = {model.name: repo for model in facts.ollama.models if (repo := _given(model.name, overrides))}
    mappings = map_models(facts.ollama.models, catalog, named, facts.hub)
    for model in facts.ollama.models:
        mapping = mappings[model.name]
        if wanted is not None and canonical(model.name) not in wanted:
            stays[model.name] = "not asked for"
        elif model.details.get("unreadable"):
            stays[model.name] = f"Ollama cannot read it: {model.details['unreadable']}"
        elif mapping.stays:
            hint = f"; perhaps {', '.join(mapping.candidates)}" if mapping.candidates else ""
            stays[model.name] = "; ".join(mapping.reasons) + hint
        elif mapping.kind == "embedding" and wanted is None:
            stays[model.name] = "an embedding model: vectors of another engine need a new index"
        else:
            moving.append(mapping)
    return moving, stays


def _on_gpus(
    moving: list[Mapping], facts: Facts, catalog: Catalog, wanted: Wanted, notes: list[str], needs: Needs
) -> tuple[dict[str, Any], dict[str, tuple[str, ...]], Refused]:
    loaded = [one.name for one in facts.ollama.loaded]
    names = tuple({canonical(model): model for model in (*(one.model for one in moving), *loaded)}.values())
    primary = list({one.repo: one for one in reversed(moving)}.values())[::-1]
    found, length = search(primary, names, facts, catalog, wanted)
    if length < wanted.context and found.placed:
        notes.append(f"context {length} instead of {wanted.context}, on both sides: with more they do not fit")
    notes += [
        f"max_num_seqs {one.share.ask.max_num_seqs} for {one.mapping.model}: with more it does not fit"
        for one in found.placed if one.share.ask.max_num_seqs < wanted.sequences
    ]  # fmt: skip
    refused = refusals(found, length, primary, moving, World(names, facts, catalog, wanted, needs))
    notes += refused.notes
    left = [one for one in moving if one.model not in refused.stays]
    data, engines = sections(left, {one.mapping.repo: one for one in found.placed})
    quants = {model.name: model.quantization for model in facts.ollama.models}
    able = {gpu.index: gpu.compute_capability for gpu in facts.gpus}
    for one in found.placed:
        name = data["routes"][one.mapping.model]["engine"]
        least = min(able[gpu] for gpu in one.gpus)
        more = others(one.mapping, least, catalog, quants.get(one.mapping.model, ""), (one.repo, one.flag))
        engines[name] += (more,) if more else ()
    data["ollama"] = pinned(found, facts, names, length)
    return data, engines, refused


def _on_cpu(moving: list[Mapping], context: int) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
    engines: dict[str, Any] = {}
    routes: dict[str, Any] = {}
    owner: dict[str | None, str] = {}
    for mapping in moving:
        name = owner.setdefault(mapping.repo, free_name(slug(mapping.model), engines))
        routes[mapping.model] = route(mapping, name, mapping.repo or "", first=name not in engines)
        length = min(context, mapping.numbers.max_context or context)
        cache = max(GIB, (mapping.numbers.kv_token or 0) * length * 2)
        size = {"max_model_len": length, "max_num_seqs": 8, "kv_cache": -(-cache // GIB) * GIB}
        engines.setdefault(name, engine(mapping, mapping.repo or "") | size)
    ollama = {"context_length": context}
    data = {"accelerator": "cpu", "images": {"vllm": _CPU_IMAGE}, "ollama": ollama}
    return data | {"engines": engines, "routes": routes}, {owner[one.repo]: one.reasons for one in moving}


def _laid_over(data: dict[str, Any], patch: MappingType[str, Any]) -> dict[str, Any]:
    merged = dict(data)
    for key, value in patch.items():
        old = merged.get(key)
        merged[key] = _laid_over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
