"""The requests of a level, one after the other, in the order in which they are due."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import httpx

from orchestrator.checks.loadloops import Keyed
from orchestrator.checks.loadplan import LoadPlan, Run
from orchestrator.checks.loadreplay import Request, wire_body

# Requests are built before their level begins, as far as they take no more than this.
_BUILT_BYTES = 16 * 2**20


def bodies(
    plan: LoadPlan, run: Run, captured: Sequence[Request], shard: tuple[int, int]
) -> Iterator[tuple[str, bytes]]:
    """Yield key and body of each request of this process; `shard`: which of how many processes it is."""
    mine, of = shard
    if run.level.shape == "replay":
        for number in range(mine, len(captured), of):
            yield f"replay/{number}", wire_body(captured[number], plan.model)
        return
    for number in range(mine, run.level.requests, of):
        key = f"{run.level.label}/{run.repeat}/{number}"
        yield key, plan.body(key)


def ready_made(due: Iterator[tuple[str, bytes]], build: Callable[[bytes], httpx.Request]) -> Iterator[Keyed]:
    """Build the first ones at once, the rest when asked: building one takes longer than sending it."""
    rest = ((key, build(body)) for key, body in due)
    built: list[Keyed] = []
    size = 0
    for keyed in rest:
        built.append(keyed)
        size += len(keyed[1].content)
        if size > _BUILT_BYTES:
            break
    return chain(built, rest)
