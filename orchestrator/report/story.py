"""What happened: the timeline, weights over time, live traffic before and after. Made from journal lines alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from orchestrator import stats
from orchestrator.report.answers import Files
from orchestrator.report.figures import moment, quantile, shown

_SIDES = ("ollama", "vllm")
_MOST = 400     # the newest events; older ones are in the journal
_SUBJECTS = {"plan": "plan", "weights": "traffic on vLLM", "warn": "note"}


def shifts(journal: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the verdict of each judged step of the cutover as the report keeps verdicts."""
    found = []
    for line in journal:
        data = line.get("data", {})
        if line["kind"] == "verdict" and line["subject"].startswith("shift ") and "weight" in data:
            evidence = {key: data[key] for key in ("weight", "result", "reasons", "vllm", "ollama", "needed")
                        if key in data}  # fmt: skip
            found.append({"check": "shift", "target": line["subject"].removeprefix("shift "), "result": line["text"],
                          "summary": (data.get("reasons") or [""])[0], "at": moment(line["at"]), "file": None,
                          "evidence": evidence, "raw": data.get("raw")})  # fmt: skip
    return found


def live(verdicts: Sequence[dict[str, Any]], files: Files) -> list[dict[str, Any]]:
    """Return what live requests showed on both sides at each judged step; times in ms. `files`: raw lines by file."""
    found = []
    for one in verdicts:
        if one["check"] == "shift":
            lines = files.get(one["raw"]["file"], ()) if one["raw"] else ()
            sides = {side: _side(one["evidence"].get(side) or {}, lines, side) for side in _SIDES}
            found.append({"at": one["at"], "routes": one["target"], "weight": shown(one["evidence"]["weight"]),
                          "result": one["result"], "reason": one["summary"], **sides})  # fmt: skip
    return found


def baselines(verdicts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the untouched Ollama did before anything was changed; times in ms."""
    return [
        {"target": one["target"], "at": one["at"], "summary": one["summary"], "levels": [
            {"users": level.get("users"), "requests": level.get("n"), "average": shown(level.get("average_ms")),
             "p95": shown(level.get("p95_ms")), "note": str(level.get("p95_note") or ""),
             "tokens_per_s": shown(level.get("tokens_per_s")),
             "failed": (level.get("errors") or 0) + (level.get("timeouts") or 0)}
            for level in one["evidence"].get("levels", ())
        ]}
        for one in verdicts if one["check"] == "baseline"
    ]  # fmt: skip


def _side(side: dict[str, Any], lines: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    own = [one for one in lines if one.get("kind") == "request" and one.get("side") == name and _answered(one)]
    return {"requests": side.get("requests"), "bad": side.get("bad"), "refusing": side.get("refusing"),
            **{key: shown(side.get(key)) for key in ("ttft_p50", "ttft_p95", "e2e_p50")},
            "first": _spread(own, "ttft_ms"), "total": _spread(own, "total_ms")}  # fmt: skip


def _answered(line: dict[str, Any]) -> bool:
    return line.get("outcome") == "complete" and not line.get("forced") and int(line.get("status") or 0) < 400


def _spread(lines: Sequence[dict[str, Any]], key: str) -> dict[str, Any] | None:
    """Return p50 and p95 with their intervals, without what the gateway itself waited; None without raw lines."""
    if not lines:
        return None
    values = [float(one[key]) - float(one.get("held_ms") or 0) for one in lines if one.get(key) is not None]
    return {f"p{q}": quantile(asdict(stats.quantile(values, q))) for q in (50, 95)}


def weights(journal: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each route's weights over time: points of seconds since the first, and percent on vLLM."""
    lines = [line for line in journal if line["kind"] == "weights"]
    if not lines:
        return []
    start = min(float(line["data"].get("at") or line["at"]) for line in lines)
    ends = [float(line["at"]) for line in journal if line["kind"] not in ("run", "ground")]
    found: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        for model, weight in line["data"].get("weights", {}).items():
            at = float(line["data"].get("at") or line["at"])
            found.setdefault(model, []).append({"at": moment(at), "s": round(at - start), "weight": shown(weight)})
    return [{"model": model, "points": points, "until_s": max(round(max(ends) - start), points[-1]["s"])}
            for model, points in found.items()]  # fmt: skip


def timeline(journal: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what is worth telling, oldest first: steps that ended, verdicts, weights, warnings. The newest 400."""
    found: list[dict[str, Any]] = []
    for line in sorted(journal, key=lambda one: float(one["at"])):
        text = _text(line)
        if text is not None:
            result = line["text"] if line["kind"] in ("verdict", "outcome") else _ended(line)
            subject = _SUBJECTS.get(line["kind"], line["subject"])
            subject = f"migrate {subject}" if line["kind"] == "run" else subject
            found.append({"at": moment(line["at"]), "kind": line["kind"], "subject": subject, "text": text,
                          "result": result, "seconds": shown(line["data"].get("seconds"))})  # fmt: skip
    return found[-_MOST:]


def _ended(line: dict[str, Any]) -> str:
    return "failed" if line["kind"] == "run" and line["data"]["code"] not in (None, 0) else ""


def _text(line: dict[str, Any]) -> str | None:
    kind, data = line["kind"], line["data"]
    if kind == "run":
        return str(line["text"] or "under way")
    if kind == "plan":
        return f"verdict: {data.get('verdict', 'unknown')}"
    if kind == "outcome":
        return str(data.get("error") or data.get("text") or line["text"])
    if kind == "verdict":
        said = data.get("summary") or (data.get("reasons") or [""])[0]
        return f"{data['weight']:g} %: {said}" if "weight" in data else str(said)
    if kind == "skip":
        return f"{line['text']} left out: {data.get('reason', '')}"
    return line["text"] if kind in ("weights", "warn", "guard") else None
