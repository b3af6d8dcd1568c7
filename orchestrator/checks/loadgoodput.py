"""Goodput: requests that met every objective, of all that were sent. Pure; times in ms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from orchestrator.stats import share_interval

Sample = dict[str, Any]
# How each objective is measured on one request.
NAMES = ("ttft", "tpot", "e2e", "itl_max")


def goodput(samples: Sequence[Sample], slo: Mapping[str, float], window_s: float) -> dict[str, Any]:
    """Share and rate of requests within every objective of `slo`; failures, and requests never sent, are not.

    `missed` counts by objective, of complete requests. TTFT and E2E count from when a request was due.
    """
    missed = dict.fromkeys(slo, 0)
    met = 0
    for sample in samples:
        if sample["outcome"] != "complete" or not sample["token_us"]:
            continue
        over = [name for name, most in slo.items() if measured(sample, name) > most]
        for name in over:
            missed[name] += 1
        met += not over
    share = share_interval(met, len(samples))
    return {
        "slo": dict(slo),
        "met": met,
        "n": len(samples),
        "share": met / len(samples) if samples else None,
        "interval": [share.low, share.high],
        "per_s": met / window_s if window_s else None,
        "missed": missed,
    }


def measured(sample: Sample, name: str) -> float:
    """One objective's figure of a complete request, ms; TPOT of a single token is 0."""
    stamps, last = sample["token_us"], sample["last_us"]
    late = max(0, sample["send_lag_us"]) if sample.get("shape", "closed") != "closed" else 0
    if name == "ttft":
        return float(stamps[0] + late) / 1000
    if name == "e2e":
        return float(last + late) / 1000
    if name == "itl_max":
        return max((later - earlier for earlier, later in pairwise(stamps)), default=0) / 1000
    tokens = sample["output_tokens"] if sample["output_tokens"] is not None else len(stamps)
    return float(last - stamps[0]) / 1000 / (tokens - 1) if tokens >= 2 else 0.0
