"""From raw lines to a matrix and a verdict: same, tolerated, used by nobody, or a difference with a name. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.checks import Judgement, Verdict
from orchestrator.checks.contract.ask import Reply
from orchestrator.checks.contract.readers import NO, UNKNOWN, Fact, fact_of
from orchestrator.checks.contract.temperature import Estimate, differ, estimate
from orchestrator.checks.contract.usage import Usage

Result = Literal["same", "tolerated", "unused", "differs", "no answer"]
_SILENT = 0.1       # share of probes that the old side may leave unanswered: what it never answers, nobody relies on
_MORE = "the new side does more than Ollama did"
# Names of differences that a probe does not name itself.
_NAMES = {
    "supported": "{group} refused", "status": "other status", "form": "other form", "ends": "stream without its end",
    "increments": "stream in one piece", "usage": "other usage", "counts": "counts missing", "kept": "limit not kept",
    "repeats": "seed ignored", "call": "tool calls differ", "arguments": "other form of arguments",
    "echo": "other name", "type": "other type", "listed": "model not listed", "begins": "JSON mode not kept",
    "given": "no logprobs",
}
_SAMPLED = {
    "v1": ("/v1/chat/completions", "default temperature"),
    "native": ("/api/chat", "native default temperature"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the matrix; `name` is that of the difference, `why` says it or why it is none, `who` would notice."""

    probe: str
    group: str
    result: Result
    old: Fact
    new: Fact
    name: str = ""
    why: str = ""
    who: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"probe": self.probe, "group": self.group, "result": self.result, "old": self.old, "new": self.new,
                "name": self.name, "why": self.why, "who": list(self.who)}  # fmt: skip


def judge(lines: Iterable[Mapping[str, Any]]) -> Verdict:
    """The verdict from the raw lines alone."""
    listed = [dict(line) for line in lines]
    plan = next((line for line in listed if line.get("kind") == "plan"), {})
    used = Usage.from_json(plan.get("used") or {})
    rows = [_row(line, listed, used) for line in listed if line.get("kind") == "probe"]
    rows += [one for way in _SAMPLED if (one := _sampled(way, listed, used))]
    lost = next((line for line in listed if line.get("kind") == "lost"), None)
    return _verdict(str(plan.get("target", "")), rows, lost, used)


def compare(probe: Mapping[str, Any], old: Fact, new: Fact) -> tuple[Result, str, str]:
    """Return (result, name, why) of two facts, as if somebody used all of it."""
    if probe.get("new_only"):
        wrong = new.get("call") == "left in the text" or new == NO
        key = "supported" if new == NO else "call"
        return ("differs", _name(probe, key), _said({}, new)) if wrong else ("same", "", "")
    if old == NO and new.get("supported"):
        return "tolerated", "", _MORE
    if new == NO and old.get("supported"):
        return "differs", _name(probe, "supported"), "Ollama answers it, the new side refuses"
    tolerated = ""
    for key in dict.fromkeys((*old, *new)):
        was, now = old.get(key), new.get(key)
        if was == now or UNKNOWN in (was, now):
            continue
        rule = probe["tolerate"].get(key)
        if rule is None or not _covers(rule, was, now):
            return "differs", _name(probe, key), f"{key}: Ollama {_word(was)}, vLLM {_word(now)}"
        tolerated = tolerated or str(rule["reason"])
    return ("tolerated", "", tolerated) if tolerated else ("same", "", "")


def _name(probe: Mapping[str, Any], key: str) -> str:
    known: str = probe["named"].get(key) or _NAMES.get(key, f"other {key}")
    return known.format(group=probe["group"])


def _covers(rule: Mapping[str, Any], was: Any, now: Any) -> bool:
    return rule.get("from") in (None, was) and rule.get("to") in (None, now)


def _said(old: Fact, new: Fact) -> str:
    return ", ".join(f"{key}: {_word(value)}" for key, value in new.items() if old.get(key) != value)


def _word(value: Any) -> str:
    if value is None or value == []:
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _row(probe: Mapping[str, Any], lines: list[dict[str, Any]], used: Usage) -> Row:
    facts: dict[str, Fact] = {}
    broken: dict[str, str] = {}
    for side in ("old", "new"):
        replies = [_reply(line) for line in lines if line.get("kind") == "answer" and line["side"] == side
                   and line["probe"] == probe["name"]]  # fmt: skip
        facts[side] = fact_of(probe["read"], replies, probe["with"]) if replies else {}
        if failure := next((one.failure for one in replies if one.failure), ""):
            broken[side] = failure
    old, new = facts["old"], facts["new"]
    if "old" in broken or not new or not (old or probe.get("new_only")):
        return Row(probe["name"], probe["group"], "no answer", old, new, "no answer", broken.get("old", "not asked"))
    result, name, why = compare(probe, old, new)
    if "new" in broken:
        result, name, why = "differs", "no answer", f"Ollama answers it, the new side does not: {broken['new']}"
    if result == "differs" and _unused(probe["group"], probe["paths"], used):
        result, why = "unused", f"nobody uses it here; {why}"
    who = tuple(used.who(probe["paths"])) if result == "differs" else ()
    return Row(probe["name"], probe["group"], result, old, new, name, why, who)


def _unused(group: str, paths: Iterable[str], used: Usage) -> bool:
    """Return whether this is known to be used by nobody; what is unknown counts as used."""
    declared = used.group(group)
    if declared is not None:
        return not declared
    asked = [used.path(path) for path in paths]
    return not asked or all(one is False for one in asked)


def _reply(line: Mapping[str, Any]) -> Reply:
    return Reply(line["status"], line["type"], line["body"], line["arrivals"], line["failure"])


def estimates(way: str, lines: Iterable[Mapping[str, Any]]) -> dict[str, Estimate]:
    """Return the temperature of each side by which it sampled on one way."""
    draws: dict[str, list[tuple[float, list[float]]]] = {"old": [], "new": []}
    for line in lines:
        if line.get("kind") == "draws" and line["way"] == way:
            draws[line["side"]] += [(float(drawn), [float(one) for one in listed]) for drawn, listed in line["draws"]]
    return {side: estimate(listed) for side, listed in draws.items()}


def _sampled(way: str, lines: list[dict[str, Any]], used: Usage) -> Row | None:
    found = estimates(way, lines)
    if not any(one.draws for one in found.values()):
        return None
    path, probe = _SAMPLED[way]
    old, new = ({"temperature": str(one) if one.enough else UNKNOWN, "draws": one.draws} for one in found.values())
    if not differ(found["old"], found["new"]):
        return Row(probe, "sampling", "same", old, new)
    why = f"where nobody says one, Ollama samples at {old['temperature']}, vLLM at {new['temperature']}"
    result: Result = "differs"
    if _unused("sampling", [path], used):
        result, why = "unused", f"nobody uses it here; {why}"
    return Row(probe, "sampling", result, old, new, "other temperature default", why)


def _verdict(target: str, rows: list[Row], lost: dict[str, Any] | None, used: Usage) -> Verdict:
    groups: dict[str, dict[str, Any]] = {}
    for row in rows:
        one = groups.setdefault(row.group, {"result": "pass", "probes": 0})
        one["probes"] += 1
        one[row.result] = one.get(row.result, 0) + 1
    for one in groups.values():
        worst = next((word for key, word in (("differs", "fail"), ("no answer", "amber"), ("unused", "amber"))
                      if one.get(key)), "pass")  # fmt: skip
        one["result"] = worst
    evidence = {"groups": groups, "matrix": [row.to_json() for row in rows], "used": used.to_json()}
    if lost:
        evidence["lost"] = {"side": lost["side"], "why": lost["why"], "after": lost["after"]}
    result, summary = _outcome(rows, lost, groups)
    return Verdict("contract", target, result, summary, evidence)


def _outcome(rows: list[Row], lost: dict[str, Any] | None, groups: dict[str, Any]) -> tuple[Judgement, str]:
    red = [row for row in rows if row.result == "differs" and not (lost and row.name == "no answer")]
    if red:
        first, names = red[0], list(dict.fromkeys(row.name for row in red))
        more = f"; also {', '.join(names[1:])}" if names[1:] else ""
        who = f"; asked in {', '.join(first.who)}" if first.who else ""
        return "fail", f"{first.name} ({first.group}, {first.probe}): {first.why}{who}{more}"
    if lost:
        side = "Ollama" if lost["side"] == "old" else "vLLM"
        dead: Judgement = "fail" if lost["side"] == "new" and lost["after"] else "inconclusive"
        return dead, f"{side} gave no answer after {lost['after']} probes: {lost['why']}"
    silent = [row for row in rows if row.result == "no answer"]
    if len(silent) > len(rows) * _SILENT or not rows:
        why = f"{silent[0].probe}: {silent[0].why}" if silent else "nothing was probed"
        return "inconclusive", f"{len(silent)} probes without an answer; {why}"
    counted = [(sum(row.result == result for row in rows), word) for result, word in
               (("same", "the same"), ("tolerated", "tolerated"), ("unused", "differ where nobody asks"),
                ("no answer", "that Ollama did not answer"))]  # fmt: skip
    told = ", ".join(f"{number} {word}" for number, word in counted if number)
    return "pass", f"{len(rows)} probes in {len(groups)} groups: {told}"
