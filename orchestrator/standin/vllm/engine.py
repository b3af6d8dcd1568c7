"""Continuous batching: up to --max-num-seqs requests run at once, the rest waits in order."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestrator.standin import grammar, text
from orchestrator.standin.vllm.flags import Options
from orchestrator.standin.vllm.metrics import Metrics
from orchestrator.standin.vllm.startup import Ready

DEAD = "EngineCore encountered an issue. See stack trace (above) for the root cause."
DRAINING = "cannot schedule new futures after shutdown"
FULL = "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."
BATCH_COST = 0.02  # each further request in the batch makes a token this much slower
POLL_S = 0.05


class EngineError(Exception):
    """The engine cannot go on; becomes an HTTP error or an error frame."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Params:
    """One sequence to generate. `stops` are strings, `limit` the most tokens."""

    prompt: str
    prompt_tokens: int
    limit: int
    greedy: bool
    seed: int | None = None
    stops: tuple[str, ...] = ()
    endless: bool = False
    think: bool = False
    constrained: str | None = None  # the whole text, when a grammar dictates it
    n: int = 1


@dataclass(frozen=True)
class End:
    """Why a sequence ended, and how many tokens it had."""

    reason: str
    tokens: int
    stop: str | None = None


@dataclass(frozen=True)
class Token:
    """What one step sends (`text`), the token behind it (`raw`); the last one of a sequence has an end."""

    text: str
    thinking: bool = False
    raw: str = ""
    end: End | None = None


@dataclass
class Engine:
    """The pretended engine of one server."""

    options: Options
    ready: Ready
    metrics: Metrics
    token_s: float = field(default_factory=lambda: float(os.environ.get("STANDIN_TOKEN_MS", "5")) / 1000)
    prompt_s: float = field(default_factory=lambda: float(os.environ.get("STANDIN_PROMPT_MS", "15")) / 1000)
    running: int = 0
    waiting: int = 0
    dead: bool = False
    frozen: bool = False
    draining: bool = False

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.options.max_num_seqs)
        folder = os.environ.get("STANDIN_FAULTS")
        self.faults = Path(folder) if folder else None

    @property
    def busy(self) -> int:
        return self.running + self.waiting

    def fault(self, name: str) -> bool:
        """Return whether a test asked for this fault (a file in STANDIN_FAULTS)."""
        return self.faults is not None and (self.faults / name).exists()

    def admit(self) -> None:
        """Raise when no new request may come in."""
        if self.dead or self.frozen:
            raise EngineError(500, DEAD)
        if self.draining:
            raise EngineError(500, DRAINING)
        limit = self.options.max_num_queued_reqs
        if self.fault("503") or (limit is not None and self.waiting >= limit and self._slots.locked()):
            raise EngineError(503, FULL)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[float]:
        """Hold a place in the batch; yields the seconds spent waiting for it."""
        began = time.monotonic()
        self.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield time.monotonic() - began
        finally:
            self.running -= 1
            self._slots.release()

    async def alive(self) -> None:
        """Wait while the engine hangs; raise when it died."""
        while (self.frozen or self.fault("hang")) and not self.dead:  # noqa: ASYNC110 -- a file tells
            await asyncio.sleep(POLL_S)
        if self.dead:
            raise EngineError(500, DEAD)

    async def generate(self, params: Params) -> AsyncGenerator[Token, None]:
        """Yield the tokens of one sequence; the place in the batch is free before the last one is out."""
        began = time.monotonic()
        stamps: list[float] = []
        async with self.slot() as queued:
            await self._wait(self.prompt_s)
            self.metrics.prompt(params.prompt_tokens)
            for item in sequence(params):
                await self._wait(self.token_s * (1 + BATCH_COST * (self.running - 1)))
                stamps.append(time.monotonic())
                self.metrics.token()
                if item.end is None:
                    yield item
        assert item.end is not None
        self.metrics.finished(params, item.end, began, queued, stamps)
        yield item

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.alive()

    async def embed(self, prompt_tokens: int) -> None:
        async with self.slot():
            await self._wait(self.prompt_s)
            self.metrics.prompt(prompt_tokens)


def planned(params: Params) -> list[Token]:
    """Return all tokens up to the natural end, or to the limit."""
    rng = text.source(params.prompt, seed=params.seed, greedy=params.greedy)
    tokens = [Token(t, True, t) for t in text.thoughts(params.prompt)] if params.think else []
    if params.constrained is not None:
        words = grammar.pieces(params.constrained)
    else:
        words = list(text.answer(rng, params.limit if params.endless else 0))
    return tokens + [Token(w, False, w) for w in words]


def sequence(params: Params) -> Iterator[Token]:
    """Yield a sequence's tokens, holding text back while it may become a stop string."""
    held = ""
    whole = planned(params)
    tokens = whole[: params.limit]
    complete = len(whole) < params.limit or (params.constrained is not None and len(whole) <= params.limit)
    for number, token in enumerate(tokens, 1):
        end = End("stop" if complete else "length", number) if number == len(tokens) else None
        if token.thinking or not params.stops:
            yield replace(token, end=end)
            continue
        held += token.text
        hit = min((s for s in params.stops if s in held), key=held.find, default=None)
        if hit is not None:
            yield replace(token, text=held[: held.find(hit)], end=End("stop", number, hit))
            return
        keep = 0 if end else max((k for s in params.stops for k in range(1, len(s)) if held.endswith(s[:k])), default=0)
        sent, held = held[: len(held) - keep], held[len(held) - keep :]
        yield replace(token, text=sent, end=end)


def options_of(values: dict[str, Any], defaults: dict[str, Any], key: str, otherwise: Any) -> Any:
    """Return a sampling parameter: the request's, else the server's default, else the built-in one."""
    value = values.get(key)
    return defaults.get(key, otherwise) if value is None else value
