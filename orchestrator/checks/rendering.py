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
from orchestrator.checks.contract.ask import Asker, Reply
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
)
from orchestrator.checks.rendering_findings import Conversation
from orchestrator.checks.rendering_judge import Lines, judge
from orchestrator.checks.waiting import together

Progress = Callable[[int, int, str], None]


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
    return judge(lines)


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
