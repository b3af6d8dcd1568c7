"""The ground of the decision: what was measured and stated before, memory, what articles cite, versions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from orchestrator import __version__
from orchestrator.decide.budget import proof
from orchestrator.decide.catalog import load
from orchestrator.decide.cited import cited
from orchestrator.decide.vram import GpuBudget
from orchestrator.facts import Facts, Spread
from orchestrator.plan import images
from orchestrator.report.figures import gib, moment, percent, shown
from orchestrator.spec import Spec

_PLACES = {"others": "other programs", "ollama": "Ollama", "weights": "vLLM weights", "kv": "vLLM KV cache",
           "work": "vLLM activations and graphs", "rest": "vLLM context and margin", "free": "free"}  # fmt: skip


def decision(journal: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the newest plan's verdict with its reasons; None before a plan."""
    plans = [line for line in journal if line["kind"] == "plan" and line["data"].get("verdict")]
    if not plans:
        return None
    data = plans[-1]["data"]
    reasons = [
        {"text": one.get("text", ""), "evidence": one.get("evidence", ""), "points": one.get("points", "")}
        for one in data.get("reasons", ())
    ]
    return {
        "at": moment(plans[-1]["at"]), "verdict": data["verdict"], "forced": bool(data.get("forced")),
        "rehearsal": bool(data.get("rehearsal")), "reasons": reasons,
        "symptoms": [{"name": name, "met": met} for name, met in (data.get("symptoms") or {}).items()],
        "missing": [{"what": one.get("what", ""), "how": one.get("how", "")} for one in data.get("missing", ())],
        "hours_lost_per_week": shown(data.get("hours_lost_per_week")),
    }


def traffic(facts: Facts) -> dict[str, Any] | None:
    """Return live requests on Ollama before anything was moved, as its log or a watch told; seconds."""
    seen = facts.traffic
    if seen.source not in ("log", "watch"):
        return None
    return {"source": seen.source, "origin": seen.origin, "begin": seen.begin, "end": seen.end,
            "requests": seen.requests, "errors": seen.errors, "cancelled": seen.cancelled,
            "over_30s_percent": percent(seen.over_30s),
            "concurrency": _spread(seen.concurrency), "latency_s": _spread(seen.latency)}  # fmt: skip


def _spread(spread: Spread) -> dict[str, Any]:
    return {"n": spread.n, **{key: shown(getattr(spread, key)) for key in ("p50", "p95", "p99", "peak")}}


def memory(spec: Spec, facts: Facts | None) -> dict[str, Any] | None:
    """Return each GPU's parts in GiB; None without facts or without GPUs."""
    if facts is None or spec.accelerator == "cpu":
        return None
    found = proof(spec, facts, load())
    gpus = [_gpu(budget, facts) for budget in found.budgets if budget.used]
    return {"gpus": gpus, "notes": [*found.refused, *found.unknown]} if gpus else None


def _gpu(budget: GpuBudget, facts: Facts) -> dict[str, Any]:
    sizes = {"others": budget.others, "ollama": budget.ollama, "weights": 0, "kv": 0, "work": 0, "rest": 0}
    for share in budget.shares:
        sizes["weights"] += share.weights + share.ask.beside()
        sizes["kv"] += share.kv
        sizes["work"] += share.activations + share.graphs
        sizes["rest"] += max(0, share.requested - share.needed) + share.ask.context()
    sizes["free"] = max(0, budget.total - sum(sizes.values()))
    name = next((gpu.name for gpu in facts.gpus if gpu.index == budget.gpu), "")
    return {
        "gpu": budget.gpu, "name": name, "total": gib(budget.total), "spare_demanded": gib(budget.spare),
        "problem": budget.problem,
        "parts": [{"kind": kind, "what": _PLACES[kind], "gib": gib(size)} for kind, size in sizes.items() if size],
    }  # fmt: skip


def quoted(loads: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the articles' figures, and ours beside those that can be compared: same quantity, same users."""
    known = cited()
    rows = [
        {"source": one.source.id, "what": one.what, "where": one.where, "ollama": one.ollama, "vllm": one.vllm,
         "ours": _ours(one.what, one.ollama + one.vllm, loads)}
        for one in known.figures
    ]  # fmt: skip
    sources = [{"id": one.id, "title": one.title, "date": one.date, "hardware": one.hardware}
               for one in known.sources.values()]  # fmt: skip
    return {"beside": [row for row in rows if row["ours"]], "alone": [row for row in rows if not row["ours"]],
            "sources": sources}  # fmt: skip


def _ours(what: str, values: str, loads: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    users = re.search(r"(\d+)(?:-(\d+))? (?:users?|at once)", what)
    if not users or not loads:
        return None
    low, high = int(users[1]), int(users[2] or users[1])
    level = next((one for one in reversed(loads[0]["levels"]) if low <= (one["users"] or 0) <= high), None)
    if level is None:
        return None
    if "tok/s" in values:
        pair, unit = (level["ollama"]["tokens_per_s"], level["vllm"]["tokens_per_s"]), "tok/s"
    elif "P99" in what:
        pair, unit = tuple(level[side]["e2e"]["p99"]["value"] for side in ("ollama", "vllm")), "ms, P99"
        if None in pair:
            pair, unit = tuple(level[side]["e2e"]["p95"]["value"] for side in ("ollama", "vllm")), "ms, P95"
    elif "first response" in what:
        pair, unit = tuple(level[side]["ttft"]["p50"]["value"] for side in ("ollama", "vllm")), "ms, median"
    else:
        return None
    if pair[0] is None and pair[1] is None:
        return None
    return {"users": level["users"], "unit": unit, "ollama": pair[0], "vllm": pair[1]}


def versions(
    spec: Spec, facts: Facts | None, journal: Sequence[dict[str, Any]], spec_text: str
) -> dict[str, Any]:
    """Return what ran: versions, images, models with their digests, the stack file's own digest."""
    engines = [{"name": name, "repo": one.repo, "revision": one.revision or "", "max_model_len": one.max_model_len}
               for name, one in spec.engines.items()]  # fmt: skip
    wanted = set(spec.routes)
    return {
        "migrate": __version__, "ollama": facts.ollama.version if facts else "",
        "driver": facts.driver if facts else "", "cuda": facts.cuda if facts else "",
        "docker": facts.docker.engine if facts and facts.docker else "",
        "gpus": [{"name": gpu.name, "total_gib": gib(gpu.total), "capability": gpu.compute_capability}
                 for gpu in (facts.gpus if facts else ())],
        "images": [{"image": one, "digest": _digest(one, journal)} for one in images(spec)], "engines": engines,
        "models": [{"name": one.name, "digest": one.digest, "quantization": one.quantization}
                   for one in (facts.ollama.models if facts else ()) if one.name in wanted],
        "spec_sha256": hashlib.sha256(spec_text.encode()).hexdigest(),
    }  # fmt: skip


def _digest(image: str, journal: Sequence[dict[str, Any]]) -> str:
    """Return the digest that a registry gave when the image was fetched; empty for one that was there or built."""
    lines = [line for line in journal if line["kind"] == "outcome" and line["subject"] == f"fetch-image {image}"]
    return str(lines[-1]["data"].get("digest") or "") if lines else ""
