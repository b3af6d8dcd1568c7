"""The verdict on the prompts of both sides, from raw lines alone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.checks import Verdict
from orchestrator.checks.contract.usage import Usage
from orchestrator.checks.rendering_asked import rendering
from orchestrator.checks.rendering_findings import REASONS, Conversation, Finding, Level
from orchestrator.checks.rendering_rules import compare
from orchestrator.checks.rendering_text import first_difference, marked, without_beginning
from orchestrator.checks.rendering_tools import AROUND

Lines = list[dict[str, Any]]
# What shows in the words around tools, too.
_TEMPLATE = ("other template", "generation prompt differs", "thinking switched differently", "system prompt added")
_SHOWN = 4000       # characters of a rendering in the evidence; the raw lines have all


def judge(lines: Iterable[Mapping[str, Any]]) -> Verdict:
    """The verdict from the raw lines alone."""
    listed = [dict(line) for line in lines]
    plan = next((line for line in listed if line.get("kind") == "plan"), {})
    target, used = str(plan.get("target", "")), Usage.from_json(plan.get("used") or {})
    said = {line["id"]: Conversation(line["id"], dict(line["said"]), tuple(line["tools"]))
            for line in listed if line.get("kind") == "conversation"}  # fmt: skip
    found: list[tuple[str, Finding]] = []
    shown: list[dict[str, Any]] = []
    for one in said.values():
        pairs = _pairs(one.id, listed, direct=bool(plan.get("direct", True)))
        found += [("", finding) for finding in _refused(one.id, listed) if not pairs]
        for way, left, right in pairs:
            new_found = compare(one, left, right)
            found += [(way, finding) for finding in new_found]
            shown.append(_side_by_side(one.id, way, left.text, right.text))
    found = _explained(found) + [("", one) for one in [*_counts_alone(listed), *_contexts(listed, used)]]
    return _verdict(target, found, shown, listed, used)


def _explained(found: list[tuple[str, Finding]]) -> list[tuple[str, Finding]]:
    """Leave out what is around the same tools where the template is another one anyway."""
    others = {way for way, one in found if one.what in _TEMPLATE}
    return [(way, one) for way, one in found if way not in others or not one.detail.startswith(AROUND)]


def _verdict(target: str, found: list[tuple[str, Finding]], shown: Lines, lines: Lines, used: Usage) -> Verdict:
    listed = [{**one.to_json(), "way": way, "level": _level(one, used)} for way, one in found]
    reasons = {one.what: REASONS[one.what] for _, one in found if one.what in REASONS}
    evidence = {"findings": listed, "renderings": shown, "tolerated": reasons}
    failed = list(dict.fromkeys(one["what"] for one in listed if one["level"] == "fail"))
    warned = list(dict.fromkeys(one["what"] for one in listed if one["level"] == "warn"))
    if failed:
        first = next(one for one in listed if one["what"] == failed[0])
        more = f"; also {', '.join(failed[1:])}" if failed[1:] else ""
        return Verdict("rendering", target, "fail", f"{failed[0]} ({first['conversation']}): {first['detail']}{more}",
                       evidence)  # fmt: skip
    seen = [line for line in lines if line.get("kind") == "rendering"]
    if not shown and not {"old", "new"} <= {line["side"] for line in seen if line["tokens"] is not None}:
        why = next((f"{line['side']} side: {line['why']}" for line in seen if line["why"]), "nothing came")
        return Verdict("rendering", target, "inconclusive", f"no prompt was rendered by both sides: {why}", evidence)
    many = len({one["conversation"] for one in shown})
    alike = sum(1 for one in shown if one["first"] < 0)
    summary = f"{many} conversations, {alike} of {len(shown)} renderings equal to the letter"
    if not shown:
        summary = "Ollama shows no prompts here; judged by their numbers of tokens"
    notes = list(reasons)
    summary += f"; tolerated: {', '.join(notes)}" if notes else ""
    summary += f"; differs: {', '.join(warned)}" if warned else ""
    return Verdict("rendering", target, "pass", summary, evidence)


def _level(one: Finding, used: Usage) -> str:
    if one.what.startswith("tools") and one.level == "fail" and used.group("tools") is False:
        return "warn"       # nobody uses tools here
    return one.level


def _pairs(conversation: str, lines: Lines, *, direct: bool) -> list[tuple[str, Any, Any]]:
    """Return (way, Ollama's rendering, vLLM's) for every way on which both can be seen."""
    mine = [line for line in lines if line.get("kind") == "rendering" and line["conversation"] == conversation]
    by = {(line["side"], line["way"]): line for line in mine}
    count = next((line["tokens"] for line in lines
                  if line.get("kind") == "count" and line["conversation"] == conversation), None)  # fmt: skip
    left = rendering(by.get(("old", "native")), count) or rendering(by.get(("old", "direct")), count)
    if left is None:
        return []
    found = []
    through = rendering(by.get(("new", "native")))
    if through:
        found.append(("adapter", left, through))
    straight = rendering(by.get(("new", "direct")))
    if straight and (direct or not through):
        found.append(("direct", left, straight))
    return found


def _refused(conversation: str, lines: Lines) -> list[Finding]:
    """Return a finding where Ollama renders a conversation and every door of the new side refuses it.

    Templates refuse with an exception of their own, as for a system message or for turns that do not alternate.
    """
    mine = [line for line in lines if line.get("kind") == "rendering" and line["conversation"] == conversation]
    doors = [line for line in mine if line["side"] == "new" and line["status"] not in (0, 404, 502, 503, 504)]
    shown = any(line["side"] == "old" and line["text"] is not None for line in mine)
    if not shown or not doors or any(line["text"] is not None for line in doors):
        return []
    return [Finding("conversation refused", conversation, f"{doors[0]['status']}: {doors[0]['why']}")]


def _side_by_side(conversation: str, way: str, old: str, new: str) -> dict[str, Any]:
    left, right = without_beginning(old), without_beginning(new)
    at = first_difference(left, right)
    shown: dict[str, Any] = {"conversation": conversation, "way": way, "first": at,
                             "old": old[:_SHOWN], "new": new[:_SHOWN]}  # fmt: skip
    return {**shown, "at": [marked(left, at), marked(right, at)]} if at >= 0 else shown


def _counts_alone(lines: Lines) -> list[Finding]:
    """Return a finding where a side shows no prompt and the numbers of tokens do not fit either."""
    off: list[int] = []
    for line in lines:
        if line.get("kind") != "rendering" or line["side"] != "old" or line["text"] is not None:
            continue
        other = next((one for one in lines if one.get("kind") == "rendering" and one["side"] == "new"
                      and one["way"] == "direct" and one["conversation"] == line["conversation"]), None)  # fmt: skip
        if other and None not in (line["tokens"], other["tokens"]):
            off.append(other["tokens"] - line["tokens"])
    if not off or max(map(abs, off)) <= 1:
        return []
    same = "the same for every conversation" if len(set(off)) == 1 else "growing with the conversation"
    detail = f"vLLM reads {', '.join(f'{one:+d}' for one in off)} tokens beside Ollama, {same}; Ollama shows no prompt"
    return [Finding("other token count", "counts", detail)]


def _contexts(lines: Lines, used: Usage) -> list[Finding]:
    """Return a finding where the new side takes less: a failure where a prompt was seen that no longer fits."""
    new = [line["context"] for line in lines if line.get("kind") == "rendering" and line["side"] == "new"
           and line["context"]]  # fmt: skip
    old = [line["context"] for line in lines if line.get("kind") == "context" and line["context"]]
    if not new or not old or min(new) >= max(old):
        return []
    detail = f"vLLM takes {min(new)} tokens, Ollama {max(old)}"
    if used.longest is None:
        return [Finding("context truncated", "context", f"{detail}; how long prompts are was not seen", weight="warn")]
    weight: Level = "fail" if used.longest > min(new) else "note"
    return [Finding("context truncated", "context", f"{detail}; the longest prompt seen has {used.longest}",
                    weight=weight)]  # fmt: skip
