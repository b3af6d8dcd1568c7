"""The part on answers: what both sides said to the same prompts, and what was found in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.report.figures import percent, shown

_LONGEST = 4000     # characters of one answer


def answers(verdicts: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one object per parity or vectors verdict: result, findings, prompts with both answers."""
    return [_parity(one) for one in verdicts if one["check"] == "parity"] + [
        _vectors(one) for one in verdicts if one["check"] == "vectors"
    ]


def _parity(verdict: dict[str, Any]) -> dict[str, Any]:
    evidence = verdict["evidence"]
    found = [one for one in evidence.get("findings", ()) if isinstance(one, dict)]
    prompts = _prompts(evidence.get("pairs", ()), found)
    return {
        "kind": "parity", "target": verdict["target"], "result": verdict["result"], "summary": verdict["summary"],
        "alike_percent": percent(evidence.get("similarity_mean")), "prompts": prompts,
        "count": len(prompts), "same": sum(one["same"] for one in prompts),
        "failed": sum(one["level"] == "fail" for one in prompts),
        "general": [one.get("detail", "") for one in found if one.get("prompt") == "*"],
        "skipped": _skipped(evidence),
    }  # fmt: skip


def _prompts(pairs: Iterable[dict[str, Any]], found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the prompts, those with findings first; plain and streaming are one where their texts are the same."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for pair in pairs:
        old, new = pair["ollama"], pair["vllm"]
        key = (pair["prompt"], old.get("text", ""), new.get("text", ""))
        row = rows.setdefault(key, {
            "prompt": pair["prompt"], "modes": [], "ollama": _side(old), "vllm": _side(new),
            "same": old.get("text") == new.get("text"), "alike_percent": percent(pair.get("similarity")),
            "level": "", "findings": [],
        })  # fmt: skip
        row["modes"].append(pair.get("mode", ""))
        for one in found:
            if one.get("prompt") == pair["prompt"] and one.get("mode") == pair.get("mode"):
                text = f"{one.get('what', '')}: {one.get('detail', '')}"
                row["findings"] += [] if text in row["findings"] else [text]
                row["level"] = "fail" if "fail" in (row["level"], one.get("level")) else "note"
    order = {"fail": 0, "note": 1, "": 2}
    return sorted(rows.values(), key=lambda row: (order[row["level"]], row["same"]))


def _side(record: dict[str, Any]) -> dict[str, Any]:
    text = str(record.get("text", ""))
    cut = len(text) > _LONGEST
    return {"text": text[:_LONGEST] + (" …" if cut else ""), "status": record.get("status"),
            "ending": record.get("finish_reason") or record.get("ending") or "",
            "prompt_tokens": record.get("prompt_tokens"), "output_tokens": record.get("output_tokens")}  # fmt: skip


def _vectors(verdict: dict[str, Any]) -> dict[str, Any]:
    evidence = verdict["evidence"]
    pairs = [
        {"input": str(one.get("input", ""))[:_LONGEST], "dimensions": one.get("dimensions"),
         "cosine": _cosine(one.get("cosine"))}
        for one in evidence.get("pairs", ())
    ]  # fmt: skip
    return {"kind": "vectors", "target": verdict["target"], "result": verdict["result"],
            "summary": verdict["summary"], "least": shown(evidence.get("least")), "pairs": pairs,
            "skipped": _skipped(evidence)}  # fmt: skip


def _cosine(value: Any) -> float | None:
    return round(value, 5) if isinstance(value, int | float) else None


def _skipped(evidence: dict[str, Any]) -> list[dict[str, str]]:
    found = evidence.get("skipped")
    return [{"group": str(key), "reason": str(why)} for key, why in found.items()] if isinstance(found, dict) else []
