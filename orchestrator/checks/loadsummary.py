"""What a load test by hand found: from its raw lines alone, as levels with figures, and as a table for others. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

from orchestrator.checks.loadmetrics import level_figures
from orchestrator.checks.loadpreset import NAME, article_figures
from orchestrator.checks.loadsaturation import ceiling

_LATENCIES = ("ttft_ms", "ttft_sent_ms", "e2e_ms", "tpot_ms", "itl_ms")
_PLAIN = ("n", "complete", "failed_share", "window_s", "offered_per_s", "requests_per_s", "output_tokens_per_s",
          "output_tokens_mean", "prompt_tokens_mean", "cached_tokens", "overloaded")  # fmt: skip
_ENGINE = ("running_max", "waiting_max", "kv_max", "preemptions", "cache_hit_share")
_OUTCOMES = ("timeout", "error", "truncated", "refused")


def summarise(lines: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Figures of every level from the lines of a test, in any order.

    {model, preset, levels: [{side, level, users, shape, ...level_figures}], first: {side: first request},
    ceiling: {side: ...}, stopped, door, live}.
    """
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        by_kind.setdefault(line["kind"], []).append(line)
    plan = (by_kind.get("plan") or [{}])[0]
    samples: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in by_kind.get("request", []):
        samples.setdefault((one["side"], one["level"]), []).append(one)
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in by_kind.get("level", []):
        runs.setdefault((one["side"], one["level"]), []).append(one)
    levels = [_level(key, samples.get(key, []), of, plan) for key, of in runs.items()]
    levels.sort(key=lambda one: (one["side"], one["users"], one["level"]))
    return {
        "model": plan.get("model", ""),
        "preset": plan.get("preset", ""),
        "levels": levels,
        "first": {one["side"]: _first(one) for one in by_kind.get("warmup", []) if one["number"] == 0},
        "failed_warmups": [one for one in by_kind.get("warmup", []) if one["outcome"] != "complete"],
        "ceiling": _ceilings(levels, plan),
        "stopped": next((one["reason"] for one in by_kind.get("stopped", [])), ""),
        "door": next(iter(by_kind.get("door", [])), None),
    }


def _level(
    key: tuple[str, str], samples: list[dict[str, Any]], runs: list[dict[str, Any]], plan: dict[str, Any]
) -> dict[str, Any]:
    figures = level_figures(samples, runs)
    if plan.get("preset") == NAME:
        figures["article"] = article_figures(samples)
    return {"side": key[0], "level": key[1], "users": runs[0]["users"], **figures}


def _first(warmup: dict[str, Any]) -> dict[str, Any]:
    """The first request of all to a side: the start of a cold model, where it was cold."""
    ttft = warmup["token_us"][0] / 1000 if warmup["token_us"] else None
    last = warmup["last_us"] / 1000 if warmup["last_us"] is not None else None
    return {"outcome": warmup["outcome"], "ttft_ms": ttft, "e2e_ms": last, "loaded_before": warmup.get("loaded_before")}


def _ceilings(levels: list[dict[str, Any]], plan: dict[str, Any]) -> dict[str, Any]:
    seqs, closed = plan.get("max_num_seqs"), [one for one in levels if one["shape"] == "closed"]
    vllm = [one for one in closed if one["side"] == "vllm"]
    return {"vllm": ceiling(vllm, seqs)} if seqs and vllm else {}


def to_csv(summary: dict[str, Any]) -> str:
    """One row per side and level; an empty cell where a figure has no value."""
    out = io.StringIO()
    latencies = [f"{name}_{part}" for name in _LATENCIES for q in ("p50", "p95", "p99") for part in (q, *_ends(q))]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["model", "side", "level", "shape", "users", *_PLAIN, *_OUTCOMES, *latencies,
                     "goodput_share", "goodput_per_s", *_ENGINE, "client_limited"])  # fmt: skip
    for level in summary["levels"]:
        goodput, engine = level.get("goodput") or {}, level.get("engine") or {}
        cells = [level[name][q][part] for name in _LATENCIES for q in ("p50", "p95", "p99")
                 for part in ("value", "low", "high")]  # fmt: skip
        writer.writerow([
            summary["model"], level["side"], level["level"], level["shape"], level["users"],
            *(level.get(name) for name in _PLAIN), *(level["outcomes"].get(name, 0) for name in _OUTCOMES), *cells,
            goodput.get("share"), goodput.get("per_s"), *(engine.get(name) for name in _ENGINE),
            "; ".join(sorted(set(level["client_limited"].values()))),
        ])  # fmt: skip
    return out.getvalue()


def _ends(q: str) -> tuple[str, str]:
    return f"{q}_low", f"{q}_high"
