"""A first spec for an installation that has none: what moves, what stays, where each engine goes, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping as MappingType
from dataclasses import dataclass
from typing import Any

from orchestrator.decide import today
from orchestrator.decide.budget import Proof, pinned_bytes, proof
from orchestrator.decide.catalog import Catalog, load
from orchestrator.decide.mapping import Mapping
from orchestrator.decide.placement import Placed, Placement, place
from orchestrator.decide.shared import map_models
from orchestrator.decide.vram import GIB, others_on
from orchestrator.facts import Facts
from orchestrator.names import canonical, slug
from orchestrator.spec import Spec, parse_spec

_CPU_IMAGE = "public.ecr.aws/q9t5s3a7/vllm-cpu-release-repo:v0.32.0"
_CONTEXTS = (262144, 131072, 65536, 32768, 16384, 8192, 4096)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A spec, and why it says what it says. `stays`: model to reason; `engines`: engine to reasons."""

    spec: Spec
    engines: dict[str, tuple[str, ...]]
    stays: dict[str, str]
    notes: tuple[str, ...]
    proof: Proof


def propose(
    name: str,
    facts: Facts,
    models: tuple[str, ...] | None = None,
    overrides: MappingType[str, Any] | None = None,
    catalog: Catalog | None = None,
) -> Proposal:
    """Return a spec and its reasons. `models`: only these; `overrides`: laid over the proposal, key by key.

    A repository, or `accelerator: cpu`, that the overrides name is planned with. Raises UsageError when the
    whole is no valid spec.
    """
    catalog, overrides = catalog or load(), overrides or {}
    moving, stays = _sorted_out(facts, models, catalog, overrides)
    context, told = today.context(facts)
    sequences, why = today.sequences(facts)
    notes = [told]
    if overrides.get("accelerator") == "cpu":
        data, engines = _on_cpu(moving, min(context, 8192))
    elif not _usable(facts):
        notes.append(facts.gpu_problem or "no GPU that vLLM can use: its CPU build is proposed, for a rehearsal")
        data, engines = _on_cpu(moving, min(context, 8192))
    else:
        notes.append(why)
        data, engines, refused = _on_gpus(moving, facts, catalog, (context, sequences), notes)
        stays |= refused
    data = {"version": 1, "name": name, **today.around(facts, data.pop("ollama", {}), notes), **data}
    spec = parse_spec(json.dumps(_laid_over(data, overrides)), "the proposal")
    return Proposal(spec, engines, stays, tuple(notes), proof(spec, facts, catalog))


def _usable(facts: Facts) -> bool:
    return any(gpu.compute_capability >= 7.5 for gpu in facts.gpus)


def _given(model: str, overrides: MappingType[str, Any]) -> str | None:
    """Return the repository that the overrides name for a model: of its route's engine, or of its name's."""
    engines, routes = overrides.get("engines") or {}, overrides.get("routes") or {}
    engine = (routes.get(model) or {}).get("engine") or slug(model)
    repo = (engines.get(engine) or {}).get("repo")
    return repo if isinstance(repo, str) else None


def _sorted_out(
    facts: Facts, models: tuple[str, ...] | None, catalog: Catalog, overrides: MappingType[str, Any]
) -> tuple[list[Mapping], dict[str, str]]:
    wanted = None if models is None else {canonical(model) for model in models}
    moving, stays = [], {}
    named = {model.name: repo for model in facts.ollama.models if (repo := _given(model.name, overrides))}
    mappings = map_models(facts.ollama.models, catalog, named)
    for model in facts.ollama.models:
        mapping = mappings[model.name]
        if wanted is not None and canonical(model.name) not in wanted:
            stays[model.name] = "not asked for"
        elif mapping.stays:
            hint = f"; perhaps {', '.join(mapping.candidates)}" if mapping.candidates else ""
            stays[model.name] = "; ".join(mapping.reasons) + hint
        elif mapping.kind == "embedding" and wanted is None:
            stays[model.name] = "an embedding model: vectors of another engine need a new index"
        else:
            moving.append(mapping)
    return moving, stays


def _on_gpus(
    moving: list[Mapping], facts: Facts, catalog: Catalog, needed: tuple[int, int], notes: list[str]
) -> tuple[dict[str, Any], dict[str, tuple[str, ...]], dict[str, str]]:
    loaded = [one.name for one in facts.ollama.loaded]
    names = {canonical(model): model for model in (*(one.model for one in moving), *loaded)}
    primary = list({one.repo: one for one in reversed(moving)}.values())[::-1]
    context = needed[0]
    found, length = _placed(primary, tuple(names.values()), facts, catalog, needed)
    if length < context and found.placed:
        notes.append(f"context {length} instead of {context}, on both sides: with more they do not fit")
    alone = {first.model: _alone(first, facts, needed) for first in primary if first.model in found.refused}
    notes += [
        f"max_num_seqs {one.share.ask.max_num_seqs} for {one.mapping.model}: with more it does not fit"
        for one in found.placed if one.share.ask.max_num_seqs < needed[1]
    ]  # fmt: skip
    refused = {one.model: f"{found.refused[first.model]} {alone[first.model]}" for one in moving for first in primary
               if first.repo == one.repo and first.model in found.refused}  # fmt: skip
    left = [one for one in moving if one.model not in refused]
    data, engines = _engines(left, {one.mapping.repo: one for one in found.placed})
    data["ollama"] = _pinned(found, facts, tuple(names.values()), length)
    return data, engines, refused


def _placed(
    moving: list[Mapping], pinned: tuple[str, ...], facts: Facts, catalog: Catalog, needed: tuple[int, int]
) -> tuple[Placement, int]:
    """Return the placement with the longest context that refuses fewest models."""
    others = others_on(facts.gpus, facts.ollama.loaded)
    container, parallel = facts.ollama.container, today.parallel(facts)
    tries = []
    context, sequences = needed
    for length in dict.fromkeys([context, *(size for size in _CONTEXTS if size < context)]):
        ollama, _ = pinned_bytes(pinned, facts, catalog, length, parallel)
        prefer = (container.gpus or ()) if container else ()
        found = place(
            moving, facts.gpus, others, ollama, context=length, max_num_seqs=sequences, prefer=prefer
        )
        tries.append((found, length))
        if not tries[-1][0].refused:
            break
    return min(tries, key=lambda one: (len(one[0].refused), -one[1]))


def _alone(mapping: Mapping, facts: Facts, needed: tuple[int, int]) -> str:
    """Say whether the engine fits when Ollama holds nothing: the last rung, one side resident at a time."""
    others = others_on(facts.gpus, facts.ollama.loaded)
    for length in dict.fromkeys([needed[0], *(size for size in _CONTEXTS if size < needed[0])]):
        found = place([mapping], facts.gpus, others, 0, context=length, max_num_seqs=needed[1])
        if found.placed:
            one = found.placed[0]
            where = f"GPU {', '.join(one.gpus)} with {length} tokens"
            return f"Alone, with Ollama's models unloaded, {one.repo} would fit on {where}: a hand-over."
    return "It does not fit alone either: a hand-over would not help."


def _pinned(found: Placement, facts: Facts, names: tuple[str, ...], context: int) -> dict[str, Any]:
    taken = {gpu for one in found.placed for gpu in one.gpus}
    if not found.shared:
        free = tuple(gpu.index for gpu in facts.gpus if gpu.index not in taken)
        return {"gpus": free or found.home, "context_length": context}
    env = {"OLLAMA_SCHED_SPREAD": "1"} if len(found.home) > 1 else {}
    slots = today.parallel(facts)
    return {"gpus": found.home, "pinned": names, "context_length": context, "num_parallel": slots, "env": env}


def _engines(
    moving: list[Mapping], placed: dict[str | None, Placed]
) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
    engines: dict[str, Any] = {}
    routes: dict[str, Any] = {}
    reasons: dict[str, tuple[str, ...]] = {}
    owner: dict[str, str] = {}
    for mapping in moving:
        one = placed[mapping.repo]
        name = owner.get(one.repo) or _free(slug(mapping.model), engines)
        routes[mapping.model] = _route(mapping, name, one.repo, first=name not in engines)
        if name in engines:
            continue
        owner[one.repo] = name
        ask = one.share.ask
        engines[name] = _engine(mapping, one.repo) | {
            "gpus": one.gpus,
            "quantization": one.flag or None,
            "max_model_len": ask.max_model_len,
            "max_num_seqs": ask.max_num_seqs,
            "kv_cache": one.share.kv,
            "gpu_memory_utilization": one.share.utilization,
            "enforce_eager": ask.eager,
            "kv_cache_dtype": ask.kv_dtype,
        }
        reasons[name] = (*mapping.reasons, *([mapping.gate] if mapping.gate else ()), *one.reasons)
    return {"engines": engines, "routes": routes}, reasons


def _engine(mapping: Mapping, repo: str) -> dict[str, Any]:
    same_owner = repo.partition("/")[0] == (mapping.repo or "").partition("/")[0]
    return {
        "repo": repo,
        "task": mapping.task,
        "gated": mapping.gated and same_owner,
        "tool_call_parser": mapping.tool_parser,
        "reasoning_parser": mapping.reasoning_parser,
        "extra_args": ("--trust-remote-code",) if mapping.trust_remote_code else (),
    }


def _route(mapping: Mapping, engine: str, repo: str, *, first: bool) -> dict[str, Any]:
    names = (mapping.repo,) if first and mapping.repo != repo else ()
    return {"engine": engine, "kind": mapping.kind, "names": names}


def _free(name: str, taken: dict[str, Any]) -> str:
    return next(n for n in (name, *(f"{name[:36]}-{at}" for at in range(2, 99))) if n not in taken)


def _on_cpu(moving: list[Mapping], context: int) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
    engines: dict[str, Any] = {}
    routes: dict[str, Any] = {}
    owner: dict[str | None, str] = {}
    for mapping in moving:
        name = owner.setdefault(mapping.repo, _free(slug(mapping.model), engines))
        routes[mapping.model] = _route(mapping, name, mapping.repo or "", first=name not in engines)
        length = min(context, mapping.numbers.max_context or context)
        cache = max(GIB, (mapping.numbers.kv_token or 0) * length * 2)
        size = {"max_model_len": length, "max_num_seqs": 8, "kv_cache": -(-cache // GIB) * GIB}
        engines.setdefault(name, _engine(mapping, mapping.repo or "") | size)
    ollama = {"context_length": context}
    data = {"accelerator": "cpu", "images": {"vllm": _CPU_IMAGE}, "ollama": ollama}
    return data | {"engines": engines, "routes": routes}, {owner[one.repo]: one.reasons for one in moving}


def _laid_over(data: dict[str, Any], patch: MappingType[str, Any]) -> dict[str, Any]:
    merged = dict(data)
    for key, value in patch.items():
        old = merged.get(key)
        merged[key] = _laid_over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
