"""Several load processes for one level: only where cores are free and one process could not keep up.

A process stamps some 25,000 chunks a second; on few cores more processes only take turns, and take the server's time.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter_ns
from typing import Any

from orchestrator.checks.loadplan import LoadPlan, Run
from orchestrator.checks.loadshape import Level

Line = dict[str, Any]
# What one process is given to do, and the gap between two tokens that a fast engine keeps up at such a concurrency.
_PER_PROCESS = 15_000.0
_GAP_S = 0.02
_LEAST_CORES = 4
_READY_S = 60.0
_HEAD_START_NS = 100_000_000
_LINE_BYTES = 64 * 2**20
_SUMS = ("planned", "sent", "not_sent", "aborted", "chunks", "cpu_s", "peak_rss_mb")
_MOST = ("loop_lag_p99_ms", "cpu_share", "wall_s")


def shards_for(level: Level, max_tokens: int, cores: int | None = None) -> int:
    """How many processes a level wants: by its expected chunks a second, at most half the cores."""
    have = cores or len(os.sched_getaffinity(0))
    if have < _LEAST_CORES:
        return 1
    rate = max(level.rate, level.rate_to) * max_tokens if level.open else level.users / _GAP_S
    return max(1, min(have // 2, math.ceil(rate / _PER_PROCESS)))


def share_of(plan: LoadPlan, run: Run, number: int, of: int, *, left: int, budget_s: float) -> LoadPlan:
    """What helper `number` of `of` does: this level alone, every of-th request, its part of the users."""
    side = next(side for side in plan.sides if side.name == run.side)
    return replace(plan, sides=(side,), levels=(run.level,), shard=(number, of), only=run.repeat, poll_s=0.0, warmup=1,
                   budget_s=budget_s, most_requests=max(1, left // of))  # fmt: skip


def users_of(users: int, number: int, of: int) -> int:
    """The users of one shard; all shards together have all."""
    return users // of + (number < users % of)


class Helpers:
    """The other processes of a level: started before it, let go together, read after it."""

    def __init__(self, children: Sequence[Process]) -> None:
        self._children = children

    @classmethod
    async def start(cls, plans: Sequence[LoadPlan]) -> Helpers:
        """Start them, and wait until each is warm; RuntimeError if one does not get there."""
        children = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", "orchestrator.checks.loadclient", stdin=PIPE, stdout=PIPE, limit=_LINE_BYTES
            )
            for _ in plans
        ]
        helpers = cls(children)
        for child, plan in zip(children, plans, strict=True):
            helpers._say(child, json.dumps(plan.to_json()))
        try:
            async with asyncio.timeout(_READY_S):
                for child in children:
                    await helpers._until_ready(child)
        except (TimeoutError, ValueError) as failure:
            helpers.kill()
            raise RuntimeError("a further load process did not get ready") from failure
        return helpers

    def go(self) -> int:
        """Let all begin at one instant, and return it: the clock is the machine's, shared by all processes."""
        start = perf_counter_ns() + _HEAD_START_NS
        for child in self._children:
            self._say(child, f"go {start}")
        return start

    def stop(self, reason: str) -> None:
        for child in self._children:
            self._say(child, f"stop {reason}")

    async def collect(self, sink: Callable[[Line], None]) -> list[Line]:
        """Hand on their requests, and return their level lines."""
        levels: list[Line] = []
        for child in self._children:
            assert child.stdout is not None
            async for text in child.stdout:
                line = json.loads(text)
                if line["kind"] == "request":
                    sink(line)
                elif line["kind"] == "level":
                    levels.append(line)
            await child.wait()
        return levels

    def kill(self) -> None:
        for child in self._children:
            if child.returncode is None:
                child.kill()

    def _say(self, child: Process, text: str) -> None:
        if child.stdin is not None and not child.stdin.is_closing():
            child.stdin.write(text.encode() + b"\n")

    async def _until_ready(self, child: Process) -> None:
        assert child.stdout is not None
        async for text in child.stdout:
            if json.loads(text)["kind"] == "ready":
                return
        raise ValueError("it ended")


def merged(own: Line, others: Sequence[Line], of: int) -> Line:
    """One level line from those of all shards: sums of what was done, the worst of what each client added."""
    lines = [own, *others]
    whole = {**own, "shards": of, "shards_lost": of - len(lines)}
    whole |= {name: sum(line[name] for line in lines) for name in _SUMS}
    return whole | {name: max(line[name] for line in lines) for name in _MOST}
