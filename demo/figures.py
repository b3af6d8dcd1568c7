"""What the demonstration proves, computed from the clients' own records, the gateway's log and the journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

OUTCOMES = ("complete", "error", "truncated", "refused")


@dataclass(frozen=True)
class Phase:
    """A stretch of time with a name; seconds since the epoch."""

    name: str
    start: float
    end: float


def table(phases: list[Phase], clients: list[dict[str, Any]], log: list[dict[str, Any]]) -> list[list[str]]:
    """Return rows: phase, requests by outcome as the clients saw them, and by side as the gateway saw them."""
    rows = []
    for phase in phases:
        mine = [one for one in clients if phase.start <= one["at"] < phase.end]
        seen = Counter(one["outcome"] for one in mine)
        sides = Counter(one["side"] for one in live(log) if phase.start <= one["ts"] < phase.end)
        rows.append([phase.name, str(len(mine)), *(str(seen[outcome]) for outcome in OUTCOMES),
                     str(sides["ollama"] or "-"), str(sides["vllm"] or "-")])
    return rows


def swap_row(swap: Phase, clients: list[dict[str, Any]]) -> list[str]:
    """Return the row of the port swap: what the clients sent while the port changed hands."""
    mine = [one for one in clients if swap.start <= one["at"] < swap.end]
    seen = Counter(one["outcome"] for one in mine)
    return [swap.name, str(len(mine)), *(str(seen[outcome]) for outcome in OUTCOMES), "", ""]


def live(log: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records of real clients: POSTs that the checks did not send."""
    return [one for one in log if not one["forced"] and one["method"] == "POST"]


def reaction(changes: list[dict[str, Any]], log: list[dict[str, Any]]) -> list[tuple[str, float | None]]:
    """Return, per weight change, the seconds until the first request that was routed by it."""
    found = []
    for change in changes:
        after = [one["ts"] - change["at"] for one in live(log) if (one["version"] or 0) >= change["version"]]
        found.append((change["text"], round(max(0.0, min(after)), 3) if after else None))
    return found


def last_on_vllm(log: list[dict[str, Any]], since: float, until: float) -> float | None:
    """Return the seconds from `since` to the start of the last new request on vLLM; None if there was none."""
    late = [one["ts"] - since for one in live(log) if one["side"] == "vllm" and since <= one["ts"] < until]
    return round(max(late), 3) if late else None
