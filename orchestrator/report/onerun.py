"""One load test alone, as the page shows it: figures of each level from its raw lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.checks.loadmetrics import level_figures
from orchestrator.report.curves import loads


def one_run(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the part that the page shows of a load test; one by hand has figures and no verdict."""
    plan = lines[0]
    samples = [one for one in lines if one.get("kind") == "request"]
    runs = [one for one in lines if one.get("kind") == "level"]
    users = sorted({one["users"] for one in runs if one["users"]})
    levels = [
        {"users": n, **{side: level_figures([s for s in samples if (s["side"], s["users"]) == (side, n)],
                                            [r for r in runs if (r["side"], r["users"]) == (side, n)])
                        for side in ("ollama", "vllm")}}
        for n in users
    ]  # fmt: skip
    verdict = {"check": "load", "target": plan["model"], "result": "open", "evidence": {"levels": levels},
               "summary": f"{len(samples)} requests, {len(users)} levels; measured, not judged"}  # fmt: skip
    return loads([verdict])[0]
