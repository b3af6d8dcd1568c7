"""The verdict on the answers of both sides, from the raw lines alone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from orchestrator.checks import Judgement
from orchestrator.checks.answers.case import Case
from orchestrator.checks.answers.checked import judge_checked
from orchestrator.checks.answers.shape import judge_shape, likeness
from orchestrator.checks.answers.terms import Asked, Group, Terms

# What explains most comes first: with other weights, every other group is red as well.
_WEIGHTIEST = ("weights", "form", "stop", "endings", "defaults")


def gather(lines: Iterable[dict[str, Any]]) -> list[Asked]:
    """Return the cases of the raw lines with their answers, in the order of the cases."""
    found: dict[str, Asked] = {}
    for line in lines:
        if line.get("kind") == "case":
            found[line["id"]] = Asked(Case.of(line))
        elif line.get("kind") == "answer":
            found[line["case"]].add(line)
    return list(found.values())


def judge_answers(asked: Sequence[Asked], terms: Terms) -> list[Group]:
    """Judge every group; what was skipped is listed, and judged nowhere."""
    left = [one for one in asked if one.case.group not in terms.skipped]
    found = judge_shape(left, terms) + judge_checked(left, terms)
    judged = [group for group in found if group.name not in terms.skipped]
    out = [Group(name, "inconclusive", f"left out: {why}") for name, why in terms.skipped.items()]
    return sorted(judged, key=_weight) + out


def overall(groups: Sequence[Group]) -> tuple[Judgement, str]:
    """One failed group fails all; one that speaks against going on leaves it open; else something must have passed."""
    failed = [one for one in groups if one.result == "fail"]
    if failed:
        more = f"; also {', '.join(one.name for one in failed[1:])}" if len(failed) > 1 else ""
        return "fail", f"{failed[0].name}: {failed[0].summary}{more}"
    held = [one for one in groups if one.blocks]
    if held:
        return "inconclusive", f"{held[0].name}: {held[0].summary}"
    passed = [one for one in groups if one.result == "pass"]
    open_ = [one.name for one in groups if one.result == "inconclusive"]
    tail = f", nothing to tell in {', '.join(open_)}" if open_ else ""
    if not passed:
        return "inconclusive", f"no group of answers has a verdict{tail}"
    return "pass", f"{len(passed)} of {len(groups)} groups of answers hold{tail}"


def evidence(asked: Sequence[Asked], groups: Sequence[Group]) -> dict[str, Any]:
    """Return the groups, and for each prompt how alike its texts are: information, judged nowhere."""
    alike = {one.case.id: likeness(one) for one in asked if one.both}
    return {"groups": [group.to_json() for group in groups], "alike": alike}


def _weight(group: Group) -> int:
    return _WEIGHTIEST.index(group.name) if group.name in _WEIGHTIEST else len(_WEIGHTIEST)
