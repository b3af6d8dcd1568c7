"""The part on form: what callers can ask of both sides (contract), and the prompts that both make of it (rendering)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.report.answers import skipped

_ORDER = {"differs": 0, "no answer": 1, "unused": 2, "tolerated": 3, "same": 4}
_LEVELS = {"fail": 0, "warn": 1, "note": 2}
_LONGEST = 800


def surfaces(verdicts: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one object per contract or rendering verdict, with the rows that are not the same first."""
    makers = {"contract": _contract, "rendering": _rendering}
    return [
        {"check": one["check"], "target": one["target"], "result": one["result"], "summary": one["summary"],
         "skipped": skipped(one["evidence"]), **makers[one["check"]](one["evidence"])}
        for one in verdicts if one["check"] in makers
    ]  # fmt: skip


def _contract(evidence: dict[str, Any]) -> dict[str, Any]:
    matrix = [one for one in evidence.get("matrix", ()) if isinstance(one, dict)]
    rows = [
        {"what": one.get("probe", ""), "group": one.get("group", ""), "word": one.get("result", ""),
         "why": ": ".join(part for part in (one.get("name"), one.get("why")) if part),
         "old": _facts(one.get("old")), "new": _facts(one.get("new"))}
        for one in matrix
    ]  # fmt: skip
    rows.sort(key=lambda row: _ORDER.get(row["word"], 5))
    counted = {word: sum(row["word"] == word for row in rows) for word in _ORDER}
    return {"rows": [row for row in rows if row["word"] != "same"], "count": len(rows), "same": counted["same"],
            "groups": [{"name": name, "result": one.get("result", ""), "probes": one.get("probes")}
                       for name, one in (evidence.get("groups") or {}).items()]}  # fmt: skip


def _rendering(evidence: dict[str, Any]) -> dict[str, Any]:
    found = [one for one in evidence.get("findings", ()) if isinstance(one, dict)]
    rows = [
        {"what": one.get("what", ""), "group": " ".join(filter(None, (one.get("conversation"), one.get("way")))),
         "word": one.get("level", ""), "why": one.get("detail", ""), "old": str(one.get("old", ""))[:_LONGEST],
         "new": str(one.get("new", ""))[:_LONGEST]}
        for one in found
    ]  # fmt: skip
    rows.sort(key=lambda row: _LEVELS.get(row["word"], 3))
    renderings = evidence.get("renderings") or ()
    return {"rows": rows, "count": len(renderings), "same": sum(one.get("first", 0) < 0 for one in renderings),
            "groups": []}  # fmt: skip


def _facts(facts: Any) -> str:
    """Return one side's facts of a probe in a line."""
    if not isinstance(facts, dict):
        return ""
    return ", ".join(f"{key}: {_word(value)}" for key, value in facts.items())[:_LONGEST]


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "nothing"
    return "nothing" if value is None else str(value)
