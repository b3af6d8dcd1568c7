"""Waiting for several questions at once, without falling silent meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

Found = TypeVar("Found")
_TELL_S = 0.5


async def together(work: Sequence[Coroutine[Any, Any, Found]], tell: Callable[[], None] | None) -> list[Found]:
    """Wait for all; `tell` is called meanwhile, and may end the wait by raising."""
    tasks = [asyncio.create_task(one) for one in work]
    pending: set[asyncio.Task[Found]] = set(tasks)
    try:
        while pending:
            if tell:
                tell()
            _, pending = await asyncio.wait(pending, timeout=_TELL_S)
        return [task.result() for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
