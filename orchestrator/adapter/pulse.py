"""Signs of life of the engines: a process that is stopped or stuck says nothing, and no error tells of it.

vLLM's `/health` is answered by its API server within milliseconds, also under load; so it is asked often and
waited for briefly. Whether tokens come is another question, which the guard's probes put more patiently.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp

TICK_S = 0.25
LATE_S = 0.2    # a loop that was later than this judges nobody


class Lag:
    """How late this process itself is: what it was too slow to read is nobody's silence."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due = float("inf")
        self._late_at = -1e9
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Look again and again, until closed."""
        self._note()
        self._due = self._clock() + TICK_S
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self.watch)

    @property
    def watched(self) -> bool:
        return self._timer is not None

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()

    def _note(self) -> None:
        if self._clock() - self._due > LATE_S:
            self._late_at = self._clock()

    def since(self, began: float) -> bool:
        """Tell whether the loop was late at any time since `began`, now included."""
        self._note()
        return self._late_at >= began


@dataclass(frozen=True)
class Pulse:
    """One target's, asked at `url` every `every_s` and waited for `timeout_s`.

    Only silence counts: an engine that refuses connections, or answers with an error, needs no guard for
    requests to fail over at once.
    """

    target: str
    url: str
    every_s: float = 1.0
    timeout_s: float = 1.5
    failures: int = 2

    async def follow(
        self, session: aiohttp.ClientSession, lag: Lag, silent: Callable[[float], Awaitable[None]]
    ) -> None:
        """Ask for ever; `silent` is told for how many seconds nothing came, once `failures` in a row are reached."""
        missed, since = 0, 0.0
        while True:
            began = time.monotonic()
            heard = await self.beat(session, lag)
            if heard is False:
                since = since if missed else began
                missed += 1
                if missed >= self.failures:
                    await silent(time.monotonic() - since)
            elif heard:
                missed = 0
            await asyncio.sleep(max(0.0, began + self.every_s - time.monotonic()))

    async def beat(self, session: aiohttp.ClientSession, lag: Lag) -> bool | None:
        """Ask once: whether a sign of life came, or None when that cannot be told."""
        began = time.monotonic()
        limit = aiohttp.ClientTimeout(total=3 * self.timeout_s, sock_connect=self.timeout_s, sock_read=self.timeout_s)
        try:
            async with session.get(f"{self.url}/health", timeout=limit):
                return True
        except aiohttp.ServerTimeoutError:
            return None if lag.since(began) else False
        except TimeoutError:
            return None     # a resolver that is slow
        except aiohttp.ClientError:
            return True     # a refusal is an answer, and the next request gets it too
