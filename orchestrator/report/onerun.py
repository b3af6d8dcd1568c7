"""A load test by hand, and what else the raw lines of any load test tell: first requests, the ceiling, the door."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.checks import Verdict
from orchestrator.checks.loadsummary import summarise
from orchestrator.report.figures import shown

BY_HAND = "load-test"


def by_hand(lines: Iterable[dict[str, Any]]) -> Verdict:
    """Return the figures of a load test by hand, which judges nothing, in the form of a verdict's evidence."""
    found = summarise(lines)
    levels: dict[str, dict[str, Any]] = {}
    for one in found["levels"]:
        place = levels.setdefault(one["level"], {"users": one["users"], "label": one["level"]})
        place[one["side"]] = one
    asked = sum(one["n"] for one in found["levels"])
    said = f"{asked} requests at {len(levels)} levels; measured, not judged"
    stopped = f"; stopped: {found['stopped']}" if found["stopped"] else ""
    return Verdict(BY_HAND, found["model"], "inconclusive", said + stopped, {"levels": list(levels.values())})


def besides(lines: Iterable[dict[str, Any]]) -> list[str]:
    """Return sentences on what no figure of a level tells."""
    found = summarise(lines)
    told = [
        f"The first request of all took {_s(one['e2e_ms'])} on {_NAMES[side]}, its first token {_s(one['ttft_ms'])}."
        for side, one in found["first"].items() if one["e2e_ms"] is not None and one["ttft_ms"] is not None
    ]
    told += [f"Ceiling of {_NAMES[side]}: {one['text']}" for side, one in found["ceiling"].items() if one.get("text")]
    door = found["door"]
    if door and isinstance(door.get("added_ms"), int | float):
        told.append(f"The door of the checks adds {shown(door['added_ms'])} ms to each request, on both sides alike.")
    return told


_NAMES = {"ollama": "Ollama", "vllm": "vLLM"}


def _s(ms: float) -> str:
    return f"{shown(ms)} ms" if ms < 1000 else f"{shown(ms / 1000)} s"
