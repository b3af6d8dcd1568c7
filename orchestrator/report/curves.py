"""The part on load: figures of both sides at each level, and the charts drawn from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from orchestrator.report.answers import Files
from orchestrator.report.figures import log_ticks, percent, quantile, shown, ticks
from orchestrator.report.onerun import BY_HAND, besides

SIDES = ("ollama", "vllm")
_TIMES = ("ttft", "e2e", "tpot", "itl")
_CHARTS = (
    ("First token, median", "ttft/p50", "ms"), ("First token, p95", "ttft/p95", "ms"),
    ("Whole answer, median", "e2e/p50", "ms"), ("Whole answer, p95", "e2e/p95", "ms"),
    ("Time per output token, median", "tpot/p50", "ms"), ("Output tokens per second", "tokens_per_s", "tok/s"),
)  # fmt: skip
_WIDE = 20      # beyond this range a linear scale hides the lower curve


def loads(verdicts: Iterable[dict[str, Any]], files: Files) -> list[dict[str, Any]]:
    """Return one object per load verdict, then those of load tests by hand. `files`: raw lines by file."""
    listed = list(verdicts)
    return [_load(one, files) for check in ("load", BY_HAND) for one in listed if one["check"] == check]


def _load(verdict: dict[str, Any], files: Files) -> dict[str, Any]:
    evidence, raw = verdict["evidence"], verdict["raw"]
    levels = [
        {"users": level.get("users"), "label": str(level.get("label") or _users(level.get("users"))),
         **{side: figures(level.get(side) or {}) for side in SIDES}}
        for level in evidence.get("levels", ())
    ]
    compared = evidence.get("comparison") or {}
    return {
        "target": verdict["target"], "by_hand": verdict["check"] == BY_HAND, "at": verdict["at"],
        "result": verdict["result"], "summary": verdict["summary"], "levels": levels,
        "besides": besides(files[raw["file"]]) if raw and raw["file"] in files else [],
        "comparison": {key: shown(value) for key, value in compared.items() if isinstance(value, int | float)},
        "limits": [
            {"label": level["label"], "side": side, "why": why}
            for level in levels for side in SIDES for why in level[side]["client_limited"]
        ],
        "charts": [chart for title, where, unit in _CHARTS if (chart := _chart(levels, title, where, unit))],
    }  # fmt: skip


def _users(count: Any) -> str:
    return f"{count} user{'s' if count != 1 else ''}"


def figures(side: dict[str, Any]) -> dict[str, Any]:
    """Return one side at one level, rounded for showing; times in ms."""
    interval = side.get("failed_interval") or (None, None)
    found: dict[str, Any] = {
        "n": side.get("n"), "complete": side.get("complete"), "outcomes": dict(side.get("outcomes") or {}),
        "failed_percent": percent(side.get("failed_share")),
        "failed_low": percent(interval[0]), "failed_high": percent(interval[1]),
        "tokens_per_s": shown(side.get("output_tokens_per_s")), "requests_per_s": shown(side.get("requests_per_s")),
        "goodput_per_s": shown(side.get("goodput_per_s")),
        "tokens_mean": shown(side.get("output_tokens_mean")), "estimated": bool(side.get("tokens_estimated")),
        "client_limited": sorted(set((side.get("client_limited") or {}).values())),
    }  # fmt: skip
    for name in _TIMES:
        summary = side.get(f"{name}_ms") or {}
        found[name] = {q: quantile(summary.get(q)) for q in ("p50", "p95", "p99")}
    return found


def _chart(levels: Sequence[dict[str, Any]], title: str, where: str, unit: str) -> dict[str, Any] | None:
    """Return a chart's series and scales; None where there are figures of less than two levels."""
    curves = {side: _points(levels, side, where) for side in SIDES}
    points = [point for one in curves.values() for point in one]
    if len({point["x"] for point in points if point["y"] > 0}) < 2:
        return None
    tops = [max(filter(None, (point["y"], point["high"]))) for point in points if point["y"] > 0]
    lows = [min(filter(None, (point["y"], point["low"]))) for point in points if point["y"] > 0]
    log = bool(tops) and max(tops) / min(lows) > _WIDE
    scale = log_ticks(min(lows), max(tops)) if log else ticks(max(tops, default=1))
    return {"title": title, "unit": unit, "log": log, "y_ticks": scale,
            "series": [{"side": side, "points": found} for side, found in curves.items()],
            "x_ticks": sorted({point["x"] for point in points})}  # fmt: skip


def _points(levels: Sequence[dict[str, Any]], side: str, where: str) -> list[dict[str, Any]]:
    found = []
    for level in levels:
        value: Any = level[side]
        for key in where.split("/"):
            value = value[key]
        one = value if isinstance(value, dict) else {"value": value, "low": None, "high": None}
        if one["value"] is not None and isinstance(level["users"], int | float) and level["users"] > 0:
            found.append({"x": level["users"], "y": one["value"], "low": one["low"], "high": one["high"]})
    return found
