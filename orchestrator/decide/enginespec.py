"""What was placed, as sections of the stack file: engines, routes, and how Ollama is pinned."""

from __future__ import annotations

from typing import Any

from orchestrator.decide import today
from orchestrator.decide.mapping import Mapping
from orchestrator.decide.placement import Placed, Placement
from orchestrator.facts import Facts
from orchestrator.names import slug
from orchestrator.spec import replica_names

Sections = tuple[dict[str, Any], dict[str, tuple[str, ...]]]     # engines and routes; engine to reasons


def sections(moving: list[Mapping], placed: dict[str | None, Placed]) -> Sections:
    """Return engines and routes of models that were placed (`placed`: by the mapping's repository), with reasons."""
    engines: dict[str, Any] = {}
    routes: dict[str, Any] = {}
    reasons: dict[str, tuple[str, ...]] = {}
    owner: dict[str, str] = {}
    for mapping in moving:
        one = placed[mapping.repo]
        name = owner.get(one.repo) or free_name(slug(mapping.model), engines, one.replicas)
        routes[mapping.model] = route(mapping, name, one.repo, first=name not in engines)
        if name in engines:
            continue
        owner[one.repo] = name
        engines[name] = engine(mapping, one.repo) | _sized(one)
        reasons[name] = (*mapping.reasons, *([mapping.gate] if mapping.gate else ()), *one.reasons)
    return {"engines": engines, "routes": routes}, reasons


def _sized(one: Placed) -> dict[str, Any]:
    ask = one.share.ask
    return {
        "gpus": one.gpus,
        "replicas": one.replicas,
        "quantization": one.flag or None,
        "max_model_len": ask.max_model_len,
        "max_num_seqs": ask.max_num_seqs,
        "kv_cache": one.share.kv,
        "gpu_memory_utilization": one.share.utilization,
        "enforce_eager": ask.eager,
        "kv_cache_dtype": ask.kv_dtype,
    }


def pinned(found: Placement, facts: Facts, names: tuple[str, ...], context: int) -> dict[str, Any]:
    """Return Ollama's section: its own GPUs where nothing is shared, else what stays loaded, and how."""
    taken = {gpu for one in found.placed for gpu in one.gpus}
    if not found.shared:
        free = tuple(gpu.index for gpu in facts.gpus if gpu.index not in taken)
        return {"gpus": free or found.home, "context_length": context}
    env = {"OLLAMA_SCHED_SPREAD": "1"} if len(found.home) > 1 else {}
    slots = today.parallel(facts)
    return {"gpus": found.home, "pinned": names, "context_length": context, "num_parallel": slots, "env": env}


def engine(mapping: Mapping, repo: str) -> dict[str, Any]:
    """Return what an engine needs to know of its model."""
    same_owner = repo.partition("/")[0] == (mapping.repo or "").partition("/")[0]
    return {
        "repo": repo,
        "task": mapping.task,
        "gated": (mapping.gated and same_owner) or repo in mapping.closed,
        "tool_call_parser": mapping.tool_parser,
        "reasoning_parser": mapping.reasoning_parser,
        "extra_args": ("--trust-remote-code",) if mapping.trust_remote_code else (),
    }


def route(mapping: Mapping, engine_name: str, repo: str, *, first: bool) -> dict[str, Any]:
    """Return a route; the first of an engine also answers to the unquantised repository's name."""
    names = (mapping.repo,) if first and mapping.repo != repo else ()
    return {"engine": engine_name, "kind": mapping.kind, "names": names}


def free_name(name: str, taken: dict[str, Any], count: int = 1) -> str:
    """Return a name that no engine and no replica of one bears, nor would any of its own `count` replicas."""
    used = {copy for one, data in taken.items() for copy in replica_names(one, data.get("replicas", 1))}
    tries = (name, *(f"{name[:36]}-{at}" for at in range(2, 99)))
    return next(one for one in tries if not used & set(replica_names(one, count)))
