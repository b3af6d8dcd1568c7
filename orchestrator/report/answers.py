"""The part on answers: what both sides said to the same prompts, and what was found in it.

Only prompts of suites are shown. What callers really asked (captured traffic) is counted, never repeated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.checks.answers.checked import is_checked, unmet
from orchestrator.checks.answers.judge import gather
from orchestrator.checks.answers.record import Reply
from orchestrator.checks.answers.terms import Asked
from orchestrator.checks.answers.traffic import TRAFFIC
from orchestrator.report.figures import percent, shown

_LONGEST = 1500     # characters of one answer
_QUESTION = 600
_BUDGET = 300_000   # characters of prompts and answers shown of all models together, those that differ first
_ORDER = {"fail": 0, "note": 1, "gain": 2, "": 3}
Files = Mapping[str, Sequence[dict[str, Any]]]


def answers(verdicts: Iterable[dict[str, Any]], files: Files) -> list[dict[str, Any]]:
    """Return one object per parity or vectors verdict. `files`: raw lines by file, where they can be read."""
    listed = list(verdicts)
    parity = [one for one in listed if one["check"] == "parity"]
    return [_parity(one, files, _BUDGET // len(parity)) for one in parity] + [
        _vectors(one) for one in listed if one["check"] == "vectors"
    ]


def captured(lines: Iterable[dict[str, Any]]) -> bool:
    """Whether raw lines hold what callers really asked."""
    return any(line.get("kind") == "case" and line.get("group") == TRAFFIC for line in lines)


def _parity(verdict: dict[str, Any], files: Files, budget: int) -> dict[str, Any]:
    evidence, raw = verdict["evidence"], verdict["raw"]
    found = [one for one in evidence.get("findings", ()) if isinstance(one, dict)]
    asked = gather(files.get(raw["file"], ())) if raw else []
    own = [one for one in asked if one.case.group != TRAFFIC and one.both]
    alike = evidence.get("alike") or {}
    rows = _pairs(evidence.get("pairs", ()), found) + [_case(one, alike.get(one.case.id) or {}) for one in own]
    rows.sort(key=lambda row: (_ORDER[row["level"]], row["same"]))
    differ = [row for row in rows if not row["same"] or row["level"]]
    same = [row for row in rows if row["same"] and not row["level"]]
    differ_shown = _within(differ, budget * 3 // 4)
    same_shown = _within(same, budget // 4)
    return {
        "kind": "parity", "target": verdict["target"], "result": verdict["result"], "summary": verdict["summary"],
        "alike_percent": percent(evidence.get("similarity_mean")),
        "count": len(rows), "same": sum(row["same"] for row in rows),
        "failed": sum(row["level"] == "fail" for row in rows),
        "captured": len(asked) - len(own), "differ": differ_shown, "alike": same_shown,
        "left": len(rows) - len(differ_shown) - len(same_shown),
        "groups": [{"name": one["name"], "result": one["result"], "summary": one["summary"]}
                   for one in evidence.get("groups", ())],
        "general": [one.get("detail", "") for one in found if one.get("prompt") == "*"],
        "notes": [*map(str, evidence.get("notes", ())), *map(str, (evidence.get("sampling") or {}).get("notes", ()))],
        "skipped": skipped(evidence),
    }  # fmt: skip


def _within(rows: list[dict[str, Any]], budget: int) -> list[dict[str, Any]]:
    """Return the first rows whose texts fit into so many characters."""
    kept = []
    for row in rows:
        budget -= len(row["question"]) + len(row["ollama"]["text"]) + len(row["vllm"]["text"]) + 200
        if budget < 0:
            break
        kept.append(row)
    return kept


def _pairs(pairs: Iterable[dict[str, Any]], found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the smoke prompts; plain and streaming are one row where their texts are the same."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for pair in pairs:
        old, new = pair["ollama"], pair["vllm"]
        key = (pair["prompt"], old.get("text", ""), new.get("text", ""))
        row = rows.setdefault(key, {
            "prompt": pair["prompt"], "about": [], "question": "", "ollama": _said(old), "vllm": _said(new),
            "same": old.get("text") == new.get("text"), "level": "", "findings": [],
        })  # fmt: skip
        row["about"].append(pair.get("mode", ""))
        for one in found:
            if one.get("prompt") == pair["prompt"] and one.get("mode") == pair.get("mode"):
                text = f"{one.get('what', '')}: {one.get('detail', '')}"
                row["findings"] += [] if text in row["findings"] else [text]
                row["level"] = "fail" if "fail" in (row["level"], one.get("level")) else "note"
    return list(rows.values())


def _said(record: dict[str, Any]) -> dict[str, Any]:
    return {"text": _cut(str(record.get("text", "")), _LONGEST),
            "ending": record.get("finish_reason") or record.get("ending") or "",
            "tokens": record.get("output_tokens"), "times": 1}  # fmt: skip


def _case(asked: Asked, alike: dict[str, Any]) -> dict[str, Any]:
    old, new = asked.old[0], asked.new[0]
    level, findings = _judged(asked) if is_checked(asked) else ("", [])
    same = (old.text, old.tool_calls) == (new.text, new.tool_calls)
    return {
        "prompt": asked.case.id, "about": [asked.case.group, asked.case.origin], "question": _question(asked),
        "ollama": _reply(old, len(asked.old)), "vllm": _reply(new, len(asked.new)),
        "same": same, "level": level, "findings": findings, "alike_percent": percent(alike.get("between")),
    }  # fmt: skip


def _judged(asked: Asked) -> tuple[str, list[str]]:
    """Return a level and why, from how often each side's answers hold what was asked of them."""
    wrong = {name: [why for why in (unmet(asked, reply) for reply in side) if why]
             for name, side in (("Ollama", asked.old), ("vLLM", asked.new))}  # fmt: skip
    told = [f"{name}: {wrong[name][0]} ({len(wrong[name])} of {len(side)} answers)"
            for name, side in (("Ollama", asked.old), ("vLLM", asked.new)) if wrong[name]]  # fmt: skip
    old, new = len(wrong["Ollama"]) / len(asked.old), len(wrong["vLLM"]) / len(asked.new)
    return ("fail" if new > old else "gain" if new < old else "note" if told else ""), told


def _reply(reply: Reply, times: int) -> dict[str, Any]:
    calls = [f"{one.get('name')}({one.get('arguments')})" for one in reply.tool_calls]
    text = reply.text or "\n".join(calls) or reply.error or ""
    return {"text": _cut(text, _LONGEST), "ending": reply.finish_reason or reply.ending, "tokens": reply.output_tokens,
            "times": times}  # fmt: skip


def _question(asked: Asked) -> str:
    said = [one.get("content") for one in asked.case.messages if one.get("role") in ("user", "tool")]
    return _cut(next((text for text in reversed(said) if isinstance(text, str)), ""), _QUESTION)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]} […]"


def _vectors(verdict: dict[str, Any]) -> dict[str, Any]:
    evidence = verdict["evidence"]
    pairs = [
        {"input": _cut(str(one.get("input", "")), _QUESTION), "dimensions": list(one.get("dimensions") or (None, None)),
         "norms": [shown(norm) for norm in one.get("norms") or (None, None)],
         "cosine": round(one["cosine"], 5) if isinstance(one.get("cosine"), int | float) else None}
        for one in evidence.get("pairs", ())
    ]  # fmt: skip
    return {"kind": "vectors", "target": verdict["target"], "result": verdict["result"],
            "summary": verdict["summary"], "least": shown(evidence.get("least")), "pairs": pairs,
            "neighbours": evidence.get("neighbours"),
            "skipped": skipped(evidence)}  # fmt: skip


def skipped(evidence: dict[str, Any]) -> list[dict[str, str]]:
    """Return the groups of a check that were left out by `up --skip`, with the reasons given."""
    found = evidence.get("skipped")
    return [{"group": str(key), "reason": str(why)} for key, why in found.items()] if isinstance(found, dict) else []
