"""The two loops of load: users who wait for their answers, and requests that come when they are due."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any

import httpx

from orchestrator.checks.loadsample import Shot

Shoot = Callable[[httpx.Request, int, str], Awaitable[Shot]]
Keyed = tuple[str, httpx.Request]
# Before an instant the loop yields instead of sleeping: timers are up to a millisecond late.
_SPIN_NS = 1_500_000


@dataclass
class Bounds:
    """What may end a level early: its deadline, a count of requests for the whole test, and a reason from outside."""

    deadline_ns: int
    left: int
    reason: str = ""

    def over(self) -> bool:
        """Whether no further request may begin; counts one if it may."""
        if self.reason or self.left <= 0 or perf_counter_ns() > self.deadline_ns:
            return True
        self.left -= 1
        return False


@dataclass
class Round:
    """What one level did: answers in the order of their ends, and what was due but never sent."""

    shots: list[Shot] = field(default_factory=list)
    not_sent: int = 0
    aborted: int = 0
    running: set[asyncio.Task[Any]] = field(default_factory=set)

    async def one(self, shoot: Shoot, keyed: Keyed, intended_ns: int) -> None:
        self.shots.append(await shoot(keyed[1], intended_ns, keyed[0]))

    def abort(self) -> int:
        """End what is under way; the servers see that their readers have gone. Returns how many there were."""
        under_way = [task for task in self.running if not task.done()]
        for task in under_way:
            task.cancel()
        return len(under_way)


async def closed_loop(
    shoot: Shoot, queue: Iterable[Keyed], users: int, ramp_s: float, bounds: Bounds, done: Round
) -> None:
    """`users` at once until the queue is empty; the stamp of intent is the moment a user was free to ask."""
    shared = iter(queue)

    async def user(number: int) -> None:
        await asyncio.sleep(number * ramp_s / users)
        while not bounds.over():
            keyed = next(shared, None)
            if keyed is None:
                return
            await done.one(shoot, keyed, perf_counter_ns())

    done.running = {asyncio.create_task(user(number)) for number in range(users)}
    await asyncio.gather(*done.running, return_exceptions=True)


async def open_loop(
    shoot: Shoot, queue: Iterator[Keyed], due_ns: Sequence[int], start_ns: int, most: int, bounds: Bounds, done: Round
) -> None:
    """Each request at its instant, however many still run; beyond `most` at once it counts as not sent."""
    for offset in due_ns:
        keyed = next(queue, None)
        due = start_ns + offset
        await _until(due, bounds)
        if keyed is None or bounds.over():
            break
        if len(done.running) >= most:
            done.not_sent += 1
            continue
        task = asyncio.create_task(done.one(shoot, keyed, due))
        done.running.add(task)
        task.add_done_callback(done.running.discard)
    while done.running:
        await asyncio.wait(set(done.running))


async def _until(due_ns: int, bounds: Bounds) -> None:
    while (left := due_ns - perf_counter_ns()) > 0 and not bounds.reason:  # noqa: ASYNC110 - an instant, not an event
        await asyncio.sleep(min(0.5, (left - _SPIN_NS) / 1e9) if left > _SPIN_NS else 0)
