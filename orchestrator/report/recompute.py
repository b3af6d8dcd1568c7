"""Verdicts made again from their raw lines: one function per check, each pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Any

from orchestrator.checks import Verdict
from orchestrator.decide.canary import Judgement, Side, judge
from orchestrator.report.onerun import BY_HAND, by_hand
from orchestrator.spec import Thresholds

Recompute = Callable[[Iterable[dict[str, Any]]], Verdict]
# Where each check judges.
MODULES = {
    "contract": "orchestrator.checks.contract",
    "rendering": "orchestrator.checks.rendering",
    "load": "orchestrator.checks.load",
    "baseline": "orchestrator.checks.baseline",
    "parity": "orchestrator.checks.parity",
    "vectors": "orchestrator.checks.vectors",
    "health": "orchestrator.checks.health",
}


class Unjudged(Exception):
    """There is nothing from which such a verdict follows."""


def recompute(check: str, lines: Sequence[dict[str, Any]]) -> Verdict:
    """Return the verdict of `check` from its raw lines.

    Raises Unjudged where nobody can; anything else means that the lines are not such a check's.
    """
    if check in _OURS:
        return _OURS[check](lines)
    found = getattr(_module(check), "recompute", None)
    if found is None:
        raise Unjudged(f"nothing judges raw lines of {check}")
    return _verdict(found(lines))


def from_evidence(check: str, target: str, evidence: dict[str, Any]) -> Verdict:
    """Return the verdict from the evidence beside it, for checks that have no raw lines; raises as `recompute`."""
    found = getattr(_module(check), "rejudge", None)
    if found is None:
        raise Unjudged("looked at once, not sampled: nothing to recompute")
    again = found(evidence)
    if isinstance(again, tuple):
        return Verdict(check, target, again[0], again[1], evidence)
    return _verdict(again)


def _module(check: str) -> Any:
    if check not in MODULES:
        raise Unjudged(f"this version of migrate knows no check {check}")
    return import_module(MODULES[check])


def _verdict(value: Any) -> Verdict:
    if not isinstance(value, Verdict):
        raise TypeError("no verdict came of it")
    return value


def _shift(lines: Sequence[dict[str, Any]]) -> Verdict:
    plan, records = lines[0], [one for one in lines[1:] if one["kind"] == "request"]
    control = Side(**plan["control"]) if plan["control"] else None
    found = judge(records, Thresholds.model_validate(plan["thresholds"]), plan["min_requests"], control)
    return Verdict("shift", plan["target"], found.result, found.reasons[0], evidence_of(plan["weight"], found))


_OURS: dict[str, Callable[[Sequence[dict[str, Any]]], Verdict]] = {"shift": _shift, BY_HAND: by_hand}


def evidence_of(weight: float, found: Judgement) -> dict[str, Any]:
    """Return what the journal keeps of a judged step."""
    return {"weight": weight, **found.as_dict()}
