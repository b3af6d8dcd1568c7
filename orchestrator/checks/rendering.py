"""Prompt parity without generating: what both sides make of the same conversations before a model reads it.

Ollama renders on `_debug_render_only`, vLLM on /tokenize. On vLLM's side both doors are looked at: what the adapter
sends (`native`), and what goes straight to the engine (`direct`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from orchestrator.checks import Side, Verdict
from orchestrator.checks.contract.ask import Asker, Reply, together
from orchestrator.checks.contract.usage import Usage
from orchestrator.checks.rendering_asked import (
    CONVERSATIONS,
    COUNTED,
    counted,
    directly,
    line_of,
    long_conversation,
    natively,
    read_json,
    rendering,
)
from orchestrator.checks.rendering_findings import REASONS, Conversation, Finding, Level
from orchestrator.checks.rendering_rules import compare
from orchestrator.checks.rendering_text import first_difference, marked, without_beginning

Progress = Callable[[int, int, str], None]
Lines = list[dict[str, Any]]
_SHOWN = 4000       # characters of a rendering in the evidence; the raw lines have all


def check_rendering(
    old: Side,
    new: Side,
    model: str,
    *,
    used: Usage | None = None,
    direct: bool = True,
    timeout_s: float = 120.0,
    progress: Progress | None = None,
) -> tuple[Verdict, Lines]:
    """Ask both sides and judge; returns the verdict and its raw lines.

    `direct`: whether chats of this route may go to the engine as they are. `progress` gets (done, of, conversation)
    and may end the check by raising.
    """
    lines: Lines = [{
        "kind": "plan", "check": "rendering", "target": model, "direct": direct, "sides": [old.name, new.name],
        "used": (used or Usage()).to_json(),
    }]  # fmt: skip
    asyncio.run(_ask_all((old, new), model, lines, timeout_s, progress))
    return recompute(lines), lines


def recompute(lines: Iterable[Mapping[str, Any]]) -> Verdict:
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
    found += [("", one) for one in [*_counts_alone(listed), *_contexts(listed, used)]]
    return _verdict(target, found, shown, listed, used)


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


async def _ask_all(
    sides: tuple[Side, Side], model: str, lines: Lines, timeout_s: float, progress: Progress | None
) -> None:
    old, new = (Asker(side, timeout_s) for side in sides)
    try:
        for done, said in enumerate(CONVERSATIONS):
            tell = partial(progress, done, len(CONVERSATIONS) + 1, said.id) if progress else None
            if not await _ask(old, new, said, model, lines, tell):
                return
        lines.append({"kind": "context", "side": "old", "context": await _context(old, model, lines)})
        sizes = [line["context"] for line in lines if line.get("context")]
        long = long_conversation(min(sizes, default=None))
        if long:
            tell = partial(progress, len(CONVERSATIONS), len(CONVERSATIONS) + 1, long.id) if progress else None
            await _ask(old, new, long, model, lines, tell)
    finally:
        await old.close()
        await new.close()


async def _ask(
    old: Asker, new: Asker, said: Conversation, model: str, lines: Lines, tell: Callable[[], None] | None
) -> bool:
    """Let both sides render one conversation; False where nobody is there."""
    lines.append({"kind": "conversation", "id": said.id, "said": said.said, "tools": list(said.tools)})
    found = await together([_old(old, said, model), _new(new, said, model)], tell)
    (way, reply, count), (_, native, direct) = found
    direct = direct or Reply(0)
    lines.append(line_of(said, way, "old", reply))
    lines.append(line_of(said, "native", "new", native))
    lines.append(line_of(said, "direct", "new", direct))
    if count is not None:
        number = read_json(count.body).get("prompt_eval_count")
        lines.append({"kind": "count", "conversation": said.id, "side": "old", "tokens": number})
    return not (reply.gone or (native.gone and direct.gone))


async def _old(side: Asker, said: Conversation, model: str) -> tuple[str, Reply, Reply | None]:
    """Return the way, what was rendered, and the count of tokens; a server without Ollama's API is asked as vLLM."""
    reply = await natively(side, said, model)
    if reply.status == 404:
        return "direct", await directly(side, said, model), None
    rendered = "_debug_info" in read_json(reply.body)
    wanted = rendered and said.id in COUNTED
    return "native", reply, await counted(side, said, model) if wanted else None


async def _new(side: Asker, said: Conversation, model: str) -> tuple[str, Reply, Reply | None]:
    """Return what the adapter renders, and the engine itself."""
    return "", await natively(side, said, model), await directly(side, said, model)


async def _context(old: Asker, model: str, lines: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the tokens that fit on the old side: what Ollama has loaded, or what vLLM said."""
    told = next((line["context"] for line in lines if line.get("side") == "old" and line.get("context")), None)
    if told:
        return int(told)
    loaded = read_json((await old.ask("GET", "/api/ps")).body).get("models")
    for one in loaded if isinstance(loaded, list) else ():
        if not isinstance(one, dict):
            continue
        size = one.get("context_length")
        names = (str(one.get("name")).lower(), str(one.get("model")).lower())
        if isinstance(size, int) and size > 0 and model.lower().removesuffix(":latest") in (
            name.removesuffix(":latest") for name in names
        ):
            return size
    return None
