"""Probes made from what the two sides say of themselves: stop words, the template's tool calls, the context."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.checks.contract.ask import Asker
from orchestrator.checks.contract.probes import Probe, Step
from orchestrator.checks.rendering_asked import read_json
from orchestrator.checks.rendering_text import MARKER, text_of

_MOST_STOPS = 4
_FILLER, _FILLERS = "word ", 64
_BEYOND = 32        # tokens more than fit
_LONGEST = 4096     # tokens of a context that is worth overflowing: the old side reads all of them
_TOOL = {"type": "function", "function": {
    "name": "river_level", "description": "Return the level of a river",
    "parameters": {"type": "object", "properties": {"river": {"type": "string", "description": "Name of the river"}},
                   "required": ["river"]},
}}  # fmt: skip
_ASKED = {"role": "user", "content": "How high is the Danube now?"}
_CALL = {"role": "assistant", "content": "", "tool_calls": [
    {"id": "call_1", "type": "function", "function": {"name": "river_level", "arguments": '{"river": "Danube"}'}},
]}  # fmt: skip
_SAID = "Quite high, I think."


@dataclass(frozen=True, slots=True)
class About:
    """What both sides say of the model before the first probe. `call`: a tool call as the template writes it."""

    stops: tuple[str, ...] = ()
    thinks: bool = False
    context: int | None = None      # of the new side
    filler: float = 1.0             # tokens of one filler word
    call: str = ""
    seen: dict[str, Any] = field(default_factory=dict)


async def look(old: Asker, engine: Asker, model: str) -> About:
    """Ask Ollama for its Modelfile, and the engine for its context and for how it writes a tool call."""
    shown = read_json((await old.ask("POST", "/api/show", {"model": model})).body)
    capabilities = shown.get("capabilities")
    listed = [str(one) for one in capabilities] if isinstance(capabilities, list) else None
    rendered = await _rendered(engine, model, [_ASKED], opened=True)
    context = rendered.get("max_model_len")
    filled = await _rendered(engine, model, [{"role": "user", "content": _FILLER * _FILLERS}], opened=True)
    call = ""
    if rendered:
        called = await _rendered(engine, model, [_ASKED, _CALL], opened=False)
        said = await _rendered(engine, model, [_ASKED, {"role": "assistant", "content": _SAID}], opened=False)
        call = written(*(text_of(one.get("token_strs") or ()) for one in (rendered, called, said)))
    return About(
        stops=tuple(own_stops(str(shown.get("parameters") or ""))), thinks="thinking" in (listed or ()),
        context=context if isinstance(context, int) else None,
        filler=_cost(rendered.get("count"), filled.get("count")), call=call,
        seen={"capabilities": listed, "parameters": shown.get("parameters")},
    )  # fmt: skip


async def _rendered(engine: Asker, model: str, messages: list[dict[str, Any]], *, opened: bool) -> dict[str, Any]:
    body = {"model": model, "messages": messages, "tools": [_TOOL], "add_generation_prompt": opened,
            "return_token_strs": True}  # fmt: skip
    reply = await engine.ask("POST", "/tokenize", body)
    return read_json(reply.body) if reply.fine else {}


def written(opened: str, called: str, said: str) -> str:
    """Return a tool call as the template writes it, from three renderings; empty where it writes none.

    opened: the question, and the assistant's turn begun; called: with a call as answer; said: with `_SAID` as answer.
    """
    if not (opened and called.startswith(opened) and said.startswith(opened) and _SAID in said):
        return ""
    end = said[len(opened) :].partition(_SAID)[2]
    text = called[len(opened) :]
    text = text[: len(text) - len(end)] if end and text.endswith(end) else text
    return text if "river_level" in text and "Danube" in text else ""


def own_stops(parameters: str) -> Iterable[str]:
    """Return the stop words of a Modelfile that are plain words: any model can be made to say them."""
    for line in parameters.splitlines():
        name, _, raw = line.strip().partition(" ")
        if name != "stop":
            continue
        try:
            word = json.loads(raw.strip())
        except ValueError:
            word = raw.strip().strip('"')
        word = str(word)
        if word and not MARKER.fullmatch(word) and json.dumps(word, ensure_ascii=False) == f'"{word}"':
            yield word


def derive(about: About) -> list[Probe]:
    """Return the probes for this model."""
    found = []
    for word in about.stops[:_MOST_STOPS]:
        found += _stopped(word)
    if about.call:
        found += [_parsed(about.call, streamed=streamed) for streamed in (False, True)]
    if about.context and about.context <= _LONGEST:
        found.append(_overflow(math.ceil((about.context + _BEYOND) / about.filler)))
    return found


def _stopped(word: str) -> list[Probe]:
    schema = {"type": "string", "enum": [f"begin {word} end"]}
    v1 = {"model": "$model", "messages": [{"role": "user", "content": "Say it."}], "max_tokens": 96, "temperature": 0,
          "response_format": {"type": "json_schema", "json_schema": {"name": "said", "schema": schema}}}  # fmt: skip
    native = {"model": "$model", "messages": [{"role": "user", "content": "Say it."}], "stream": False,
              "format": schema, "options": {"num_predict": 96, "temperature": 0}}  # fmt: skip
    asked = (("", "/v1/chat/completions", v1), ("native, ", "/api/chat", native))
    return [
        _probe(f"stop word of the Modelfile ({way}{word})", "stop", [Step(path=path, body=body)], "cut",
               args={"word": word}, named={"cut": "dropped stop word"}, paths=(path,))
        for way, path, body in asked
    ]  # fmt: skip


def _parsed(call: str, *, streamed: bool) -> Probe:
    """Let the engine itself write the call that its template writes: its parser has to read it, and in a stream too.

    Parsers have two ways to read, and some read a foreign form on one of them.
    """
    body = {"model": "$model", "messages": [_ASKED], "tools": [_TOOL], "max_tokens": 256, "temperature": 0,
            "structured_outputs": {"choice": [call]}, "stream": streamed}  # fmt: skip
    return _probe(
        f"{'streamed ' if streamed else ''}tool call in the template's own form", "tools",
        [Step(path="/invocations", body=body)], "parser",
        args={"name": "river_level"}, named={"call": "wrong tool parser", "supported": "tools refused"},
        paths=("/v1/chat/completions", "/api/chat"), new_only=True,
    )  # fmt: skip


def _cost(bare: Any, filled: Any) -> float:
    """Return the tokens of one filler word, from two counts of whole prompts."""
    if not (isinstance(bare, int) and isinstance(filled, int)) or filled <= bare:
        return 1.0
    return max((filled - bare) / _FILLERS, 0.5)


def _overflow(words: int) -> Probe:
    """Ask with a prompt that is a little longer than the new side's context; where the old one's ends too, both say."""
    text = _FILLER * words
    v1 = {"model": "$model", "messages": [{"role": "user", "content": text}], "max_tokens": 1, "temperature": 0}
    steps = [Step(path="/v1/chat/completions", body=v1)]
    return _probe("prompt beyond the context", "context", steps, "answered",
                  paths=("/v1/chat/completions", "/api/chat"), named={"supported": "long prompts refused"})  # fmt: skip


def _probe(name: str, group: str, steps: list[Step], read: str, *, args: dict[str, Any] | None = None,
           named: dict[str, str] | None = None, paths: tuple[str, ...], new_only: bool = False) -> Probe:  # fmt: skip
    return Probe.model_validate({
        "name": name, "group": group, "steps": steps, "read": read, "with": args or {}, "named": named or {},
        "paths": paths, "new_only": new_only,
    })  # fmt: skip
