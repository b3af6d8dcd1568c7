"""Tool calls: when they are refused, and what one looks like."""

from __future__ import annotations

import random
from typing import Any

from orchestrator.standin import grammar, text
from orchestrator.standin.vllm.checks import Refusal, bad
from orchestrator.standin.vllm.flags import Options

Json = dict[str, Any]


def check(options: Options, value: Json) -> None:
    """Refuse tools that the server was not started for."""
    tools = value.get("tools")
    choice = value.get("tool_choice") or ("auto" if tools else None)
    if not tools or choice == "none":
        return
    if choice == "auto":
        if not (options.auto_tools and options.tool_parser):
            raise Refusal('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')
        return
    if isinstance(choice, dict):
        name = (choice.get("function") or {}).get("name")
        if not options.tool_parser:
            raise Refusal(f'tool_choice=function "{name}" requires --tool-call-parser to be set')
        if name not in names(tools):
            words = "The tool specified in `tool_choice` does not match any of the specified `tools`"
            raise bad(words, "tool_choice")
    elif not options.tool_parser:
        raise Refusal(f'tool_choice="{choice}" requires --tool-call-parser to be set')


def names(tools: list[Json]) -> list[str]:
    return [str((t.get("function") or {}).get("name")) for t in tools]


def forced(value: Json, prompt: str) -> Json | None:
    """Return the call {name, arguments} that a request forces or its last message asks for, or None."""
    choice, tools = value.get("tool_choice"), value.get("tools")
    if not tools or choice == "none":
        return None
    if choice in (None, "auto"):
        function = text.asked_tool(value["messages"], tools)
    else:
        wanted = choice["function"]["name"] if isinstance(choice, dict) else names(tools)[0]
        function = next(t["function"] for t in tools if t["function"]["name"] == wanted)
    if function is None:
        return None
    rng: random.Random = text.source(prompt, seed=None, greedy=True)
    return {"name": function["name"], "arguments": grammar.sample(function.get("parameters"), rng)}


def opening(call: Json) -> str:
    """Return the text before the arguments, as a model writes it; seen only when a call was cut short."""
    return f'<tool_call>\n{{"name": "{call["name"]}", "arguments": '
