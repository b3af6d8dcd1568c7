"""The load test of the article on migrating (data/cited.yaml: S3), and its own figures. Pure.

One warm-up; then n requests at the same moment, once each; 64 tokens, temperature 0.7, at most 120 s. It prints the
average and the nearest-rank P95 of whole answers, which needs 20 of them. Timeouts are a class of their own here; the
article's script counts them as errors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from orchestrator.checks.loadmetrics import e2e_ms
from orchestrator.checks.loadshape import Level

NAME = "article"
SETTINGS: dict[str, Any] = {"warmup": 1, "max_tokens": 64, "temperature": 0.7, "timeout_s": 120.0, "preset": NAME}
LEVELS = tuple(Level(users, users) for users in (1, 5, 10, 20))
_LEAST = 20


def article_figures(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """{n, average_ms, p95_ms, p95_note, timeouts, errors} of one level; latencies of complete requests."""
    times = sorted(e2e_ms(s) for s in samples if s["outcome"] == "complete" and s["token_us"])
    timeouts = sum(s["outcome"] == "timeout" for s in samples)
    enough = len(times) >= _LEAST
    return {
        "n": len(samples),
        "average_ms": sum(times) / len(times) if times else None,
        "p95_ms": nearest_rank(times, 95) if enough else None,
        "p95_note": "" if enough else "n too small",
        "timeouts": timeouts,
        "errors": sum(s["outcome"] not in ("complete", "timeout") for s in samples),
    }


def nearest_rank(ordered: Sequence[float], q: float) -> float:
    """The smallest value with at least q percent of all at or below it; of sorted values, at least one."""
    return ordered[max(0, math.ceil(q / 100 * len(ordered)) - 1)]
