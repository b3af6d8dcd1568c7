"""What the shadow side-car keeps, asked of it in its container. Its texts are strangers': never trusted."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from typing import Any

from orchestrator.clients.docker import Docker
from orchestrator.names import canonical
from orchestrator.spec import Spec

_READER = ("python", "-m", "orchestrator.adapter.shadow")


@dataclass(frozen=True, slots=True)
class Kept:
    """Numbers of a route's comparisons, oldest first, and those that were asked for with their words.

    `running`: the side-car is there.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    worded: list[dict[str, Any]] = field(default_factory=list)
    running: bool = False


def kept(docker: Docker, spec: Spec, route: str, texts: int = 0) -> Kept:
    """Return what is kept of a route: numbers of all, and the newest `texts` with prompts and answers.

    A side-car that does not run has none to tell. Raises MigrateError when it runs and does not tell.
    """
    there = docker.containers(project=f"migrate-{spec.name}", service="shadow", running=True)
    if not there:
        return Kept()

    def ask(*what: str) -> list[dict[str, Any]]:
        return records(docker.exec(there[0].id, [*_READER, *what, "--route", canonical(route)]))

    return Kept(ask("--json"), ask("--texts", str(texts)) if texts else [], running=True)


def records(said: str) -> list[dict[str, Any]]:
    """Return the records among the lines; what is none is passed over."""
    found = []
    for line in said.splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and "id" in value:
            found.append(_clean(value))
    return found


def _clean(value: dict[str, Any]) -> dict[str, Any]:
    """Return the record with every field of the type that it should have, or None."""
    sides = {side: value[side] if isinstance(value.get(side), dict) else {} for side in ("ollama", "vllm")}
    return {
        **{key: _text(value.get(key)) for key in ("id", "route", "uri")},
        **{key: _number(value.get(key)) for key in ("at", "likeness")},
        **({"request": _text(value["request"])} if "request" in value else {}),
        **{side: {
            **{key: _number(said.get(key)) for key in ("status", "ttft_ms", "total_ms")},
            **{key: _text(said[key]) for key in ("text", "error") if said.get(key) is not None},
        } for side, said in sides.items()},
    }  # fmt: skip


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    """Return the number; times lie within what a clock can show."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e11
    return float(value) if known else None


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the numbers: counts, share of equal texts, likeness (0..1) and times (ms) by their medians."""
    alike = [one["likeness"] for one in records if one["likeness"] is not None]
    failed = [one for one in records if one["vllm"]["status"] != 200]
    at = [one["at"] for one in records if one["at"] is not None]
    return {
        "count": len(records),
        "compared": len(alike),
        "same": sum(one == 1 for one in alike),
        "same_share": sum(one == 1 for one in alike) / len(alike) if alike else None,
        "likeness_median": statistics.median(alike) if alike else None,
        "likeness_min": min(alike, default=None),
        "failed": len(failed),
        "ollama_ms_median": _median(records, "ollama"),
        "vllm_ms_median": _median(records, "vllm"),
        "first": min(at, default=None),
        "last": max(at, default=None),
    }


def _median(records: list[dict[str, Any]], side: str) -> float | None:
    """Return the median time (ms) of whole answers where both sides gave one: else the two would not be alike."""
    both = [one[side]["total_ms"] for one in records if one["vllm"]["status"] == 200]
    found = [one for one in both if one is not None]
    return statistics.median(found) if found else None
