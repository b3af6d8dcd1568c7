"""Figures of a load test from its samples. Pure; times in ms.

TTFT: first token delta minus send. E2E: last delta minus send. TPOT: (E2E - TTFT) / (output tokens - 1).
ITL: gaps between token deltas, pooled; one delta may hold several tokens. Output rate: output tokens of complete
requests over the window from the first send to the last end. Latencies are those of complete requests. In an open loop
TTFT and E2E count from the moment a request was due, so waiting to be sent is part of them; `ttft_sent_ms` does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from orchestrator.checks.loadgoodput import goodput
from orchestrator.checks.loadopen import open_figures, unseen
from orchestrator.checks.loadsaturation import engine_figures
from orchestrator.stats import percentile, quantile, share_interval

Sample = dict[str, Any]
_QUANTILES = (50.0, 95.0, 99.0)
# Below these a timer's own grain would decide (ms).
_LAG_FLOOR_MS = 2.0
_CPU_LIMIT = 0.7


def level_figures(samples: Sequence[Sample], runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All figures of one side at one level; `runs` are its `level` lines, one per repeat."""
    complete = [sample for sample in samples if sample["outcome"] == "complete" and sample["token_us"]]
    outcomes = Counter(sample["outcome"] for sample in samples)
    tokens = [_tokens(sample) for sample in complete]
    window_s = sum(_window_s(samples, run["repeat"]) for run in runs)
    slo = next((run["slo"] for run in runs if run.get("slo")), None)
    failed = len(samples) - outcomes["complete"]
    share = share_interval(failed, len(samples))
    figures: dict[str, Any] = {
        "n": len(samples),
        "complete": len(complete),
        "outcomes": dict(outcomes),
        "failed_share": failed / len(samples) if samples else None,
        "failed_interval": [share.low, share.high],
        "errors": _errors(samples),
        "window_s": window_s,
        "output_tokens": sum(tokens),
        "output_tokens_mean": sum(tokens) / len(tokens) if tokens else None,
        "tokens_estimated": any(sample["output_tokens"] is None for sample in complete),
        "output_tokens_per_s": sum(tokens) / window_s if window_s else None,
        "requests_per_s": len(complete) / window_s if window_s else None,
        "ttft_ms": _summary([felt_ms(s, ttft_ms(s)) for s in complete]),
        "ttft_sent_ms": _summary([ttft_ms(s) for s in complete]),
        "e2e_ms": _summary([felt_ms(s, e2e_ms(s)) for s in complete]),
        "tpot_ms": _summary([t for s in complete if (t := tpot_ms(s)) is not None]),
        "itl_ms": _summary(list(_gaps(complete)), independent=False),
        "client": _client(samples, complete, runs),
        "prompt_tokens_mean": _mean([s["prompt_tokens"] for s in complete]),
        "cached_tokens": _mean([s.get("cached_tokens") for s in complete]),
        "goodput": goodput(samples, slo, window_s) if slo else None,
        "engine": engine_figures([run.get("engine") or [] for run in runs]),
    }
    figures |= {"shape": runs[0].get("shape", "closed") if runs else "closed"}
    figures |= open_figures(samples, runs) if figures["shape"] != "closed" else {"unseen": unseen(complete)}
    if figures.get("overloaded"):
        for name in ("ttft_ms", "ttft_sent_ms", "e2e_ms"):
            figures[name] = _without_values(figures[name])
    return {**figures, "client_limited": limits(figures)}


def ttft_ms(sample: Sample) -> float:
    return float(sample["token_us"][0]) / 1000


def e2e_ms(sample: Sample) -> float:
    return float(sample["last_us"]) / 1000


def felt_ms(sample: Sample, latency_ms: float) -> float:
    """The latency from the moment the request was due; in a closed loop that is the moment it was sent."""
    late = sample["send_lag_us"] if sample.get("shape", "closed") != "closed" else 0
    return latency_ms + max(0.0, late / 1000)


def tpot_ms(sample: Sample) -> float | None:
    tokens = _tokens(sample)
    return (e2e_ms(sample) - ttft_ms(sample)) / (tokens - 1) if tokens >= 2 else None


def limits(figures: dict[str, Any]) -> dict[str, str]:
    """Which figures the client itself may have distorted, and why; those get no verdict."""
    client, found = figures["client"], {}
    lag, send, cpu = client["loop_lag_p99_ms"], client["send_lag_p99_ms"], client["cpu_share"]
    for name, share in (("itl_ms", 0.10), ("ttft_ms", 0.05), ("e2e_ms", 0.05)):
        typical = figures[name]["p50"]["value"] or figures[name]["p50"]["maximum"]
        bound = max(_LAG_FLOOR_MS, share * (typical or 0.0))
        if lag > bound:
            found[name] = f"the client's loop lagged {lag:.1f} ms (p99), allowed {bound:.1f}"
        elif name != "itl_ms" and send > bound:
            found[name] = f"requests left {send:.1f} ms (p99) late, allowed {bound:.1f}"
        if cpu > _CPU_LIMIT:
            found[name] = f"the client used {cpu:.0%} of a core, allowed {_CPU_LIMIT:.0%}"
    return found


def _client(samples: Sequence[Sample], complete: Sequence[Sample], runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The self-check; `merged_share` counts token deltas that arrived in one read with the one before."""
    lags = [max(0.0, sample["send_lag_us"] / 1000) for sample in samples]
    gaps = [later == earlier for s in complete for earlier, later in pairwise(s["token_us"])]
    return {
        "loop_lag_p99_ms": max((run["loop_lag_p99_ms"] for run in runs), default=0.0),
        "send_lag_p99_ms": percentile(lags, 99) if lags else 0.0,
        "cpu_share": max((run["cpu_share"] for run in runs), default=0.0),
        "merged_share": sum(gaps) / len(gaps) if gaps else 0.0,
        "retried": sum(bool(sample["retried"]) for sample in samples),
        "unsent": sum(run["planned"] - run["sent"] for run in runs),
    }


def _summary(values: list[float], *, independent: bool = True) -> dict[str, Any]:
    """p50, p95, p99 with their intervals; gaps of one request are correlated and get none."""
    summary: dict[str, Any] = {"n": len(values)}
    for q in _QUANTILES:
        entry = asdict(quantile(values, q))
        summary[f"p{q:g}"] = entry if independent else {**entry, "low": None, "high": None}
    return summary


def _without_values(summary: dict[str, Any]) -> dict[str, Any]:
    """Of a level that never became steady, a percentile says nothing but how long it was run."""
    return {
        name: {**entry, "value": None, "low": None, "high": None, "note": "overloaded"}
        if isinstance(entry, dict) else entry
        for name, entry in summary.items()
    }  # fmt: skip


def _mean(values: Sequence[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return sum(told) / len(told) if told else None


def _tokens(sample: Sample) -> int:
    """From usage; counted deltas where a server gives none."""
    tokens = sample["output_tokens"]
    return int(tokens) if tokens is not None else len(sample["token_us"])


def _gaps(samples: Iterable[Sample]) -> Iterable[float]:
    return ((later - earlier) / 1000 for s in samples for earlier, later in pairwise(s["token_us"]))


def _window_s(samples: Sequence[Sample], repeat: int) -> float:
    own = [sample for sample in samples if sample["repeat"] == repeat]
    if not own:
        return 0.0
    first, last = min(s["at_us"] for s in own), max(s["end_us"] for s in own)
    return float(last - first) / 1e6


def _errors(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """The different errors, most frequent first, at most ten."""
    texts = Counter(
        (s["outcome"], s["status"], (s["error"] or "")[:200]) for s in samples if s["outcome"] != "complete"
    )
    return [
        {"outcome": outcome, "status": status, "error": error, "count": count}
        for (outcome, status, error), count in texts.most_common(10)
    ]
