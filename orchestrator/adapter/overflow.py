"""What does not fit the engine's context: shortened as Ollama shortens it, instead of refused."""

from __future__ import annotations

from typing import Protocol

from orchestrator.adapter.ask import Ask, render_request
from orchestrator.adapter.heard import field
from orchestrator.adapter.refusals import EngineFault, overflow_limit, too_many_tokens, unknown_token
from orchestrator.adapter.wire import JSON


class Asks(Protocol):
    """The part of the engines' door that is needed here."""

    async def ask(self, url: str, body: JSON) -> JSON: ...


async def corrected(engines: Asks, question: Ask, fault: EngineFault) -> bool:
    """Change the question so that the engine accepts it, as Ollama would have; False when nothing helps.

    Nothing has been generated yet. First the oldest messages go; what is then still too long loses its
    beginning, with room for about half a window of answer left, as Ollama leaves it.
    """
    body = question.body
    if question.context and unknown_token(fault):  # a context of the time before the migration
        body["prompt"] = body["prompt"][len(question.context) :]
        question.context = []
        return True
    if limit := too_many_tokens(fault):
        body.pop("max_tokens", None)
        if "prompt" in body:
            body["max_tokens"] = limit - 1
        return True
    limit = overflow_limit(fault, question.route.context_length)
    if not limit or not question.truncate or "truncate_prompt_tokens" in body:
        return False
    if "messages" in body and await _drop_oldest(engines, question, limit):
        return True
    reserve = min(body.get("max_tokens", limit // 2), limit // 2)
    body["truncate_prompt_tokens"] = max(limit - reserve, 1)
    return True


def without_oldest(messages: list[JSON], count: int) -> list[JSON]:
    """Return the messages without the `count` oldest; system messages and the last one always stay."""
    droppable = [at for at, message in enumerate(messages[:-1]) if message.get("role") != "system"]
    dropped = set(droppable[:count])
    return [message for at, message in enumerate(messages) if at not in dropped]


async def _drop_oldest(engines: Asks, question: Ask, limit: int) -> bool:
    """Drop as few messages as needed, found by bisection; False when even the last alone is too long."""
    messages = question.body["messages"]
    most = len(messages) - len(without_oldest(messages, len(messages)))
    if not most:
        return False
    low, high = 1, most
    try:
        while low < high:
            middle = (low + high) // 2
            fits = await _count(engines, question, without_oldest(messages, middle)) < limit
            low, high = (low, middle) if fits else (middle + 1, high)
        kept = without_oldest(messages, low)
        question.body["messages"] = kept
        return await _count(engines, question, kept) < limit
    except EngineFault:
        return False


async def _count(engines: Asks, question: Ask, messages: list[JSON]) -> int:
    """Return the tokens of a rendered conversation."""
    asked = render_request({**question.body, "messages": messages})
    answer = await engines.ask(f"{question.route.url}/tokenize", asked)
    return field(answer, "count", int)
