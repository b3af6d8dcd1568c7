"""One generation at a runner: tokens at the runner's pace, stop words, limits, and the final counts."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.standin import grammar, text
from orchestrator.standin.backend import Backend
from orchestrator.standin.ollama.models import Model
from orchestrator.standin.ollama.scheduler import Turn

Json = dict[str, Any]
REPEAT_LIMIT = 30  # llama-server's client gives a generation up after so many equal tokens in a row


@dataclass(frozen=True)
class Ask:
    """What is to be generated. `raw` is a prompt without a template; else `messages` count."""

    model: Model
    messages: list[Json]
    raw: str | None = None
    tools: Any = None
    options: Json = field(default_factory=dict)
    format: Any = None
    think: bool = False
    logprobs: int | None = None  # how many rivals to list; None for no log-probabilities

    @property
    def prompt(self) -> str:
        return text.render(self.messages, self.tools) if self.raw is None else self.raw

    @property
    def stops(self) -> list[str]:
        return [s for s in self.options.get("stop") or [] if s]

    @property
    def limit(self) -> int | None:
        wanted = int(self.options.get("num_predict", -1))
        return wanted if wanted > 0 else None

    @property
    def temperature(self) -> float:
        return float(self.options.get("temperature", 0.8))

    @property
    def greedy(self) -> bool:
        return self.temperature == 0


@dataclass(frozen=True)
class Piece:
    """A token of the answer, or of the thinking before it."""

    text: str
    thinking: bool = False
    token: str = ""
    call: Json | None = None  # {name, arguments}: the whole text was a call of a tool


@dataclass(frozen=True)
class Done:
    """The end of a generation; times in nanoseconds."""

    reason: str
    prompt_tokens: int
    prompt_ns: int
    tokens: int
    ns: int


class StopWatch:
    """Holds text back while it may be the beginning of a stop word."""

    def __init__(self, stops: list[str]) -> None:
        self._stops = stops
        self._held = ""
        self.hit = False

    def feed(self, new: str) -> str:
        """Take new text and return what may be sent; `hit` is set when a stop word came."""
        self._held += new
        found = [self._held.find(s) for s in self._stops if s in self._held]
        if found:
            self.hit = True
            sent, self._held = self._held[: min(found)], ""
            return sent
        keep = max((n for s in self._stops for n in range(1, len(s)) if self._held.endswith(s[:n])), default=0)
        cut = len(self._held) - keep
        sent, self._held = self._held[:cut], self._held[cut:]
        return sent

    def rest(self) -> str:
        rest, self._held = self._held, ""
        return rest


class Pace:
    """Waits so that tokens come at even distances, whatever the work between them took."""

    def __init__(self) -> None:
        self._next = time.monotonic()

    async def wait(self, seconds: float) -> None:
        self._next = max(self._next + seconds, time.monotonic())
        await asyncio.sleep(max(0.0, self._next - time.monotonic()) if seconds else 0)


def repeat_limit(backend: Backend | None) -> int:
    """Return STANDIN_REPEAT_LIMIT (0: none). Off by default over real random weights, which only repeat."""
    return int(os.environ.get("STANDIN_REPEAT_LIMIT", "0" if backend else str(REPEAT_LIMIT)))


async def generate(ask: Ask, turn: Turn, backend: Backend | None) -> AsyncIterator[Piece | Done]:
    """Yield the pieces of an answer and its end; no `Done` comes when the model only repeats itself."""
    run = _from_backend(ask, backend) if backend else _pretended(ask, turn)
    watch = StopWatch(ask.stops)
    began = time.monotonic_ns()
    first = began
    produced, same, last = 0, 0, ""
    prompt_tokens, reason = 0, "stop"
    most = repeat_limit(backend)
    async for item in run:
        if isinstance(item, Piece) and item.call:
            yield item
            continue
        if isinstance(item, Done):
            prompt_tokens, reason, produced = item.prompt_tokens, item.reason, item.tokens
            break
        first = first if produced else time.monotonic_ns()
        produced += 1
        same, last = (same + 1 if item.token.strip() == last else 0), item.token.strip()
        if most and last and same >= most:
            return
        sent = item.text if item.thinking else watch.feed(item.text)
        if sent:
            yield Piece(sent, item.thinking, item.token)
        if watch.hit:
            reason = "stop"
            break
    if watch.hit:
        prompt_tokens = prompt_tokens or prompt_count(ask, turn)
    elif tail := watch.rest():
        yield Piece(tail, False, tail)
    ended = time.monotonic_ns()
    yield Done(reason, prompt_tokens, _thousands(first - began), produced, _thousands(ended - first))


def _thousands(ns: int) -> int:
    return max(1000, ns - ns % 1000)  # the runner reports microseconds


def prompt_count(ask: Ask, turn: Turn) -> int:
    """Return the prompt's tokens; a prompt beyond the context counts as what is left after the cut."""
    number = text.prompt_tokens(ask.prompt)
    context = turn.runner.context
    return number if number <= context else context // 2 + 2


def planned(ask: Ask) -> tuple[list[Piece], bool]:
    """Return all tokens of the pretended answer, and whether it ends by itself within the limit."""
    rng = text.source(ask.prompt, seed=ask.options.get("seed"), greedy=ask.greedy)
    pieces = [Piece(t, True, t) for t in text.thoughts(ask.prompt)] if ask.think else []
    wanted = text.asked_tool(ask.messages, ask.tools)
    if wanted and not ask.format:
        arguments = grammar.sample(wanted.get("parameters"), rng)
        words = grammar.pieces(f'{{"name": {json.dumps(wanted["name"])}, "parameters": {arguments}}}')
    else:
        words = grammar.pieces(grammar.sample(ask.format, rng)) if ask.format else list(text.answer(rng))
    pieces += [Piece(w, False, w) for w in words]
    if ask.limit is not None and len(pieces) >= ask.limit:
        return pieces[: ask.limit], len(pieces) == ask.limit and bool(ask.format)
    return pieces, True


async def _pretended(ask: Ask, turn: Turn) -> AsyncIterator[Piece | Done]:
    pieces, whole = planned(ask)
    pace = Pace()
    await pace.wait(turn.prompt_s)
    call = called(ask, "".join(p.text for p in pieces if not p.thinking))
    for piece in pieces:
        await pace.wait(turn.token_s)
        yield replace(piece, text="") if call and not piece.thinking else piece
    if call:
        yield Piece("", call=call)
    yield Done("stop" if whole else "length", prompt_count(ask, turn), 0, len(pieces), 0)


def called(ask: Ask, spoken: str) -> Json | None:
    """Return the tool call {name, arguments} that a text is, or None."""
    if not ask.tools or not spoken.startswith("{"):
        return None
    try:
        value = json.loads(spoken)
    except ValueError:
        return None
    arguments = value.get("parameters", value.get("arguments"))
    known = {(t.get("function") or {}).get("name") for t in ask.tools}
    return {"name": value["name"], "arguments": arguments} if value.get("name") in known else None


async def _from_backend(ask: Ask, backend: Backend) -> AsyncIterator[Piece | Done]:
    path = "/v1/chat/completions" if ask.raw is None else "/v1/completions"
    usage: Json = {}
    reason = "stop"
    async for event in backend.stream(path, backend_body(ask)):
        usage = event.get("usage") or usage
        for choice in event.get("choices", []):
            reason = choice.get("finish_reason") or reason
            delta = choice.get("delta") or {"content": choice.get("text")}
            if delta.get("reasoning"):
                yield Piece(delta["reasoning"], True, delta["reasoning"])
            if delta.get("content"):
                yield Piece(delta["content"], False, delta["content"])
    number = usage.get("completion_tokens", 0)
    yield Done("length" if reason == "length" else "stop", usage.get("prompt_tokens", 0), 0, number, 0)


def backend_body(ask: Ask) -> Json:
    """Return the vLLM request that means the same."""
    renamed = {"repeat_penalty": "repetition_penalty", "num_predict": "max_tokens"}
    passed = ("temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty", "stop")
    body: Json = {"temperature": 0.8, "top_p": 0.9, "top_k": 40}
    body |= {k: ask.options[k] for k in passed if k in ask.options}
    body |= {new: ask.options[old] for old, new in renamed.items() if old in ask.options}
    if ask.limit is None:
        body.pop("max_tokens", None)
    if len(body.get("stop") or []) > 4:
        body.pop("stop")  # vLLM takes four; the stand-in looks for them itself
    if isinstance(ask.format, dict):
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "x", "schema": ask.format}}
    elif ask.format:
        body["response_format"] = {"type": "json_object"}
    if ask.raw is not None:
        return {**body, "prompt": ask.raw, "max_tokens": body.get("max_tokens", 1 << 9)}
    messages = [{"role": m.get("role"), "content": text.plain(m.get("content"))} for m in ask.messages]
    return {**body, "messages": messages}


async def rendered(ask: Ask, backend: Backend | None) -> str:
    """Return the prompt: over a real engine, as that engine's template writes it."""
    if backend is None or ask.raw is not None:
        return ask.prompt
    asked: Json = {"messages": backend_body(ask)["messages"], "add_generation_prompt": True}
    if ask.tools:
        asked["tools"] = ask.tools
    found = await backend.post("/tokenize", asked)
    return str((await backend.post("/detokenize", {"tokens": found["tokens"]}))["prompt"])
