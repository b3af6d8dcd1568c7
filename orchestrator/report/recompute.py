"""Verdicts made again from their raw lines: one function per check, each pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from orchestrator.checks import Verdict, baseline, contract, health, load, parity, rendering, vectors
from orchestrator.decide.canary import Judgement, Side, judge
from orchestrator.report.onerun import BY_HAND, by_hand
from orchestrator.spec import Thresholds


class Unjudged(Exception):
    """There is nothing from which such a verdict follows."""


def recompute(check: str, lines: Sequence[dict[str, Any]]) -> Verdict:
    """Return the verdict of `check` from its raw lines.

    Raises Unjudged where nobody can; anything else means that the lines are not such a check's.
    """
    if check not in _FROM_LINES:
        raise Unjudged(f"this version of migrate judges no raw lines of {check}")
    return _FROM_LINES[check](lines)


def from_evidence(check: str, target: str, evidence: dict[str, Any]) -> Verdict:
    """Return the verdict from the evidence beside it, for checks without raw lines; raises as `recompute`."""
    if check == "health":
        return Verdict(check, target, *health.rejudge(evidence), evidence)
    raise Unjudged("nothing was kept from which it could be recomputed")


def _shift(lines: Sequence[dict[str, Any]]) -> Verdict:
    plan, records = lines[0], [one for one in lines[1:] if one["kind"] == "request"]
    control = Side(**plan["control"]) if plan["control"] else None
    found = judge(records, Thresholds.model_validate(plan["thresholds"]), plan["min_requests"], control)
    return Verdict("shift", plan["target"], found.result, found.reasons[0], evidence_of(plan["weight"], found))


_FROM_LINES: dict[str, Callable[[Sequence[dict[str, Any]]], Verdict]] = {
    "contract": contract.recompute, "rendering": rendering.recompute, "parity": parity.recompute,
    "vectors": vectors.recompute, "baseline": baseline.recompute, "load": load.recompute, BY_HAND: by_hand,
    "shift": _shift,
}  # fmt: skip


def evidence_of(weight: float, found: Judgement) -> dict[str, Any]:
    """Return what the journal keeps of a judged step."""
    return {"weight": weight, **found.as_dict()}
