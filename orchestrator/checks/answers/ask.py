"""Asks both sides the questions of a suite, bounded in how many at once, and writes down what came back."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import httpx

from orchestrator.checks import Side, SideName
from orchestrator.checks.answers.assertions import checkable, without_fences
from orchestrator.checks.answers.case import EQUAL, Case
from orchestrator.checks.answers.checked import is_checked, passes
from orchestrator.checks.answers.record import Reply
from orchestrator.checks.answers.sandbox import run_code
from orchestrator.checks.answers.terms import Asked
from orchestrator.clients.answers import read_plain
from orchestrator.clients.ollama import parse_parameters
from orchestrator.clients.stream import open_client

Progress = Callable[[int, int, str], None]
_NOBODY = (502, 503, 504)   # a gateway's words for "no engine behind me"
_AGAIN_S = 1.0              # an Ollama whose queue is full says 503, too
_TELL_S = 0.5
_CONFIRM = 2                # rounds more for a prompt that looks lost
_STEADY = 12                # prompts asked again whatever they answer, to know how steady a side is
_WORD = re.compile(r"[^\W\d_]{3,}|\d+")


@dataclass(frozen=True, slots=True)
class Manner:
    """How often and how many at once. `repeats`: of the same question; `samples`: of one without parameters."""

    max_tokens: int = 48
    repeats: int = 2
    samples: int = 6
    parallel: int = 4
    timeout_s: float = 120.0


class SideLost(Exception):
    """A side gave no answer; `side` is its name."""

    def __init__(self, side: SideName, why: str) -> None:
        super().__init__(why)
        self.side = side


def ask_both(
    old: Side, new: Side, model: str, suite: Sequence[Case], manner: Manner, progress: Progress | None = None
) -> list[dict[str, Any]]:
    """Return the raw lines: cases, answers, how sampling was made equal, and the side that was lost, if any.

    `progress` gets (done, of, prompt id) twice a second or more, and may end the asking by raising.
    """
    asking = _Asking(model, manner, {one.id: Asked(one) for one in suite}, progress)
    asyncio.run(asking.run(old, new))
    return [{"kind": "case", **one.to_json()} for one in suite] + asking.lines


@dataclass
class _Asking:
    model: str
    manner: Manner
    asked: dict[str, Asked]
    progress: Progress | None
    lines: list[dict[str, Any]] = field(default_factory=list)
    done: int = 0
    of: int = 0
    now: str = ""

    async def run(self, old: Side, new: Side) -> None:
        doors = [_Door(side, self.manner) for side in (old, new)]
        async with doors[0], doors[1]:
            await self._sampling(doors[0])
            try:
                await self._rounds(doors)
            except SideLost as lost:
                self.lines.append({"kind": "lost", "side": lost.side, "why": str(lost)})

    async def _rounds(self, doors: Sequence[_Door]) -> None:
        steady = [one for one in self.asked.values() if one.case.ask != "free"]
        free = [one for one in self.asked.values() if one.case.ask == "free"]
        cut = [one for one in steady if one.case.ask == "cut"]
        self.of = 2 * (len(steady) * self.manner.repeats + len(free) * self.manner.samples + len(cut))
        await self._round(doors, steady)
        for _ in range(1, self.manner.repeats):
            await self._round(doors, [one for at, one in enumerate(steady) if at < _STEADY or _worth(one)])
        for _ in range(_CONFIRM):
            await self._round(doors, [one for one in steady if _suspect(one)])
        await self._cut(doors, cut)
        for _ in range(self.manner.samples):
            await self._round(doors, free)

    async def _round(self, doors: Sequence[_Door], chosen: Iterable[Asked]) -> None:
        await self._all([self._one(door, one, None) for one in chosen for door in doors])

    async def _cut(self, doors: Sequence[_Door], chosen: Sequence[Asked]) -> None:
        """Ask again with a stop word out of each side's own answer."""
        jobs = []
        for one in chosen:
            words = [stop_word(side[0].text) if side else None for side in (one.old, one.new)]
            if None not in words:
                jobs += [self._one(door, one, word) for door, word in zip(doors, words, strict=True)]
        await self._all(jobs)

    async def _all(self, jobs: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Wait for all jobs, and tell meanwhile how far they are."""
        tasks = {asyncio.create_task(job) for job in jobs}
        pending = set(tasks)
        try:
            while pending:
                if self.progress:
                    self.progress(min(self.done, self.of), self.of, self.now)
                finished, pending = await asyncio.wait(pending, timeout=_TELL_S, return_when=asyncio.FIRST_EXCEPTION)
                for task in finished:
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, door: _Door, one: Asked, stop: str | None) -> None:
        body = one.case.body(self.model, self.manner.max_tokens)
        reply = await door.ask({**body, "stop": [stop]} if stop is not None else body)
        reply = await _run(one.case, reply)
        line = {"kind": "answer", "case": one.case.id, "side": door.name, "stop": stop, **reply.to_json()}
        self.lines.append(line)
        one.add(line)
        self.done, self.now = self.done + 1, one.case.id

    async def _sampling(self, door: _Door) -> None:
        """Write down what both sides are told, and what Ollama's Modelfile adds to it."""
        self.lines.append({"kind": "sampling", "sent": EQUAL, "modelfile": await door.modelfile(self.model)})


class _Door:
    """One side: at most so many requests at once."""

    def __init__(self, side: Side, manner: Manner) -> None:
        self.name: SideName = side.name
        self._timeout_s = manner.timeout_s
        self._client = open_client(side.base_url, headers=side.headers, idle_s=manner.timeout_s)
        self._free = asyncio.Semaphore(manner.parallel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def ask(self, body: dict[str, Any]) -> Reply:
        """Return the answer; a side that gives none twice is lost."""
        async with self._free:
            try:
                return await self._ask(body)
            except SideLost:
                await asyncio.sleep(_AGAIN_S)
                return await self._ask(body)

    async def _ask(self, body: dict[str, Any]) -> Reply:
        try:
            response = await self._client.post(
                "/v1/chat/completions", json=body, extensions={"total": self._timeout_s}
            )
        except httpx.HTTPError as failure:
            raise SideLost(self.name, f"{type(failure).__name__}: {failure}") from failure
        if response.status_code in _NOBODY:
            raise SideLost(self.name, f"status {response.status_code}")
        return read_reply(response.status_code, response.content)

    async def modelfile(self, model: str) -> dict[str, Any] | None:
        """Return the parameters of the model's Modelfile, None where they are not told."""
        try:
            answer = await self._client.post("/api/show", json={"model": model}, extensions={"total": 10.0})
            return parse_parameters(str(answer.json().get("parameters") or "")) if answer.status_code == 200 else None
        except (httpx.HTTPError, ValueError, AttributeError):
            return None


def read_reply(status: int, body: bytes) -> Reply:
    """Read a whole chat answer, whatever it looks like."""
    try:
        answer = read_plain(status, body)
    except (TypeError, AttributeError, RecursionError) as error:
        return Reply(status, "error", error=f"not a chat answer: {error}")
    return Reply(
        status, answer.ending, answer.text, answer.reasoning, tuple(_calls(body)), answer.finish_reason,
        answer.prompt_tokens, answer.output_tokens, answer.error,
    )  # fmt: skip


def _calls(body: bytes) -> list[dict[str, Any]]:
    try:
        found = json.loads(body)["choices"][0]["message"].get("tool_calls") or []
        functions = [call["function"] for call in found]
    except (ValueError, LookupError, TypeError, AttributeError):
        return []
    return [{"name": one.get("name"), "arguments": one.get("arguments")} for one in functions if isinstance(one, dict)]


async def _run(case: Case, reply: Reply) -> Reply:
    """Run the code of an answer where the case says so."""
    tests = [(at, one["value"]) for at, one in checkable(case.asserts) if one["type"].removeprefix("not-") == "code"]
    if not tests or reply.flaw:
        return reply
    code = without_fences(reply.text)
    ran = {str(at): await asyncio.to_thread(run_code, code, value["test"]) for at, value in tests}
    return Reply(**{**asdict(reply), "tool_calls": reply.tool_calls, "ran": ran})


def stop_word(text: str) -> str | None:
    """Return a word whose first place is in the middle of a text, None where there is none."""
    places = [(text.find(found[0]), found[0]) for found in _WORD.finditer(text)]
    inner = [(at, word) for at, word in places if len(text) * 0.2 <= at <= len(text) * 0.8 - len(word)]
    return min(inner, key=lambda one: abs(one[0] - len(text) / 2))[1] if inner else None


def _worth(one: Asked) -> bool:
    """Whether asking again may teach something: a side knows the answer."""
    return is_checked(one) and any(passes(one, reply) for reply in (*one.old, *one.new))


def _suspect(one: Asked) -> bool:
    """Whether vLLM fails so far what Ollama passes; without anything to check, what only one of them answers whole."""
    if is_checked(one):
        return all(passes(one, reply) for reply in one.old) and not any(passes(one, reply) for reply in one.new)
    return not any(reply.flaw for reply in one.old) and all(reply.flaw for reply in one.new)
