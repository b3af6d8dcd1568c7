"""What a step of the cutover was judged on, kept as raw lines: no address, no path, no prompt."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orchestrator.decide.canary import Side
from orchestrator.names import slug
from orchestrator.spec import Cutover
from orchestrator.steps.evidence import keep_raw

# All that judge() reads, and when it was.
_KEPT = ("ts", "route", "side", "status", "outcome", "ttft_ms", "total_ms", "held_ms", "failover", "forced")


def keep_shift(
    folder: Path, routes: tuple[str, ...], weight: float, cutover: Cutover, control: Side | None,
    records: Iterable[Mapping[str, Any]],
) -> dict[str, Any] | None:
    """Write `report/shift-ROUTES-N.jsonl` below the stack's folder, over no other; return {file, lines, sha256}."""
    raw = keep_raw(_free(folder / "report", slug("-".join(routes))), _lines(routes, weight, cutover, control, records))
    return asdict(raw) if raw else None


def _free(report: Path, name: str) -> Path:
    number = 1
    while (path := report / f"shift-{name}-{number}.jsonl").exists():
        number += 1
    return path


def _lines(
    routes: tuple[str, ...], weight: float, cutover: Cutover, control: Side | None,
    records: Iterable[Mapping[str, Any]],
) -> Iterator[str]:
    yield json.dumps({
        "kind": "plan", "check": "shift", "target": ",".join(routes), "weight": weight,
        "thresholds": cutover.thresholds.model_dump(mode="json"), "min_requests": cutover.min_requests,
        "control": asdict(control) if control else None,
    })  # fmt: skip
    for one in records:
        yield json.dumps({"kind": "request", **{key: one.get(key) for key in _KEPT}})
