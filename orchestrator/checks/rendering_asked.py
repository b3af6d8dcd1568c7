"""The conversations that are rendered, and what a side answers when it is asked to."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.checks.contract.ask import Asker, Reply
from orchestrator.checks.rendering_findings import Conversation, Rendering
from orchestrator.checks.rendering_text import text_of

_TOOL = {
    "type": "function",
    "function": {
        "name": "river_level",
        "description": "Return the level of a river",
        "parameters": {
            "type": "object",
            "properties": {"river": {"type": "string", "description": "Name of the river"}},
            "required": ["river"],
        },
    },
}
_ASKED = "Which river flows through Vienna?"
CONVERSATIONS = (
    Conversation("question", {"user1": _ASKED}),
    Conversation("system", {"system": "You answer in one short sentence.", "user1": _ASKED}),
    Conversation("turns", {
        "system": "You answer in one short sentence.", "user1": _ASKED, "assistant1": "The Danube flows through it.",
        "user2": "And which one through Prague?",
    }),
    Conversation("tools", {"user1": "How high is the Danube today?"}, (_TOOL,)),
)  # fmt: skip
COUNTED = ("question", "system", "turns")
_TURN_TOKENS = 40       # of one turn of the long conversation, at most
_MOST_TURNS = 150
_SHARE = 0.7            # of the smaller context


def long_conversation(context: int | None) -> Conversation | None:
    """Return a conversation that fits a context of so many tokens with room for an answer; None if unknown."""
    turns = min(int((context or 0) * _SHARE) // _TURN_TOKENS, _MOST_TURNS)
    if turns < 3:
        return None
    turns -= 1 - turns % 2
    said = {}
    for number in range(1, turns + 1):
        who = "user" if number % 2 else "assistant"
        said[f"{who}{(number + 1) // 2}"] = f"Note {number} of the log: the water stood at {200 + number} centimetres."
    return Conversation("long", said)


def messages(said: Conversation) -> list[dict[str, str]]:
    return [{"role": slot.rstrip("0123456789"), "content": text} for slot, text in said.said.items()]


def body(said: Conversation, model: str) -> dict[str, Any]:
    found: dict[str, Any] = {"model": model, "messages": messages(said)}
    return {**found, "tools": list(said.tools)} if said.tools else found


async def natively(side: Asker, said: Conversation, model: str) -> Reply:
    """Ask as Ollama is asked; one token is the most that a server which knows no rendering would generate."""
    more = {"stream": False, "_debug_render_only": True, "options": {"num_predict": 1, "temperature": 0}}
    return await side.ask("POST", "/api/chat", {**body(said, model), **more})


async def directly(side: Asker, said: Conversation, model: str) -> Reply:
    """Ask as vLLM is asked."""
    more = {"add_generation_prompt": True, "return_token_strs": True}
    return await side.ask("POST", "/tokenize", {**body(said, model), **more})


async def counted(side: Asker, said: Conversation, model: str) -> Reply:
    """Ask Ollama how many tokens it reads, for the price of one more."""
    more = {"stream": False, "options": {"num_predict": 1, "temperature": 0}}
    return await side.ask("POST", "/api/chat", {**body(said, model), **more})


def line_of(said: Conversation, way: str, side: str, reply: Reply) -> dict[str, Any]:
    """Return the raw line of one answer: what it rendered, or why not."""
    answer = read_json(reply.body)
    shown = answer.get("_debug_info")
    text = shown.get("rendered_template") if isinstance(shown, dict) else None
    strings = answer.get("token_strs")
    if not isinstance(strings, list) or not all(isinstance(one, str) for one in strings):
        strings = []
    if text is None and strings:
        text = text_of(strings)
    count = answer.get("count", answer.get("prompt_eval_count"))
    context = answer.get("max_model_len")
    return {
        "kind": "rendering", "conversation": said.id, "way": way, "side": side, "status": reply.status,
        "text": text if isinstance(text, str) else None, "tokens": _number(count), "strings": strings[:4],
        "context": _number(context),
        "why": reply.failure or (_error(answer) or reply.body[:300] if reply.status != 200 else ""),
    }  # fmt: skip


def rendering(line: dict[str, Any] | None, tokens: int | None = None) -> Rendering | None:
    """Return what a raw line says, or None if it rendered nothing; `tokens` stands in where it has no count."""
    if line is None or line["text"] is None:
        return None
    count = line["tokens"] if line["tokens"] is not None else tokens
    return Rendering(line["text"], count, tuple(line["strings"]), line["context"])


def read_json(text: str) -> dict[str, Any]:
    """Return a JSON object, empty where there is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _error(answer: dict[str, Any]) -> str:
    error = answer.get("error", answer.get("detail", ""))
    return str(error.get("message", error) if isinstance(error, dict) else error)[:300]
