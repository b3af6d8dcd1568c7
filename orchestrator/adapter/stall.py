"""A core that hangs behind a server that lives: `/health` is answered, and no token comes.

vLLM's API server counts what its engine core reports after every step: tokens, requests, how full the cache is. While
a probe waits, these counters are read; when they stand still for longer than any one step can take, the core hangs.

What protects a long prefill: it goes in steps of at most `step_tokens` tokens, and each of them moves the fill of the
cache. How long one can take is worked out from the engine's own rate, slow prefills included, times MARGIN; and twice
the longest pause that ended before there was an alarm, though never longer than for a probe.
Where nothing is known of the rate, the guard waits for its probes alone. A full queue moves the counters as well. A
server that is slow to show them, or a guard that was late itself, proves nothing, and the clock starts anew.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn

import aiohttp

from orchestrator.adapter.pulse import Lag

SUSPECT_S = 0.3     # a probe that waits for so long is worth a look
EVERY_S = 0.5
LEAST_S = 2.5       # never sooner: a kernel may be compiled in the middle of serving
MARGIN = 3.0        # late parts of a long prompt take longer than the average

_MARKS = frozenset({
    "prompt_tokens_total", "generation_tokens_total", "iteration_tokens_total_count", "iteration_tokens_total_sum",
    "kv_cache_usage_perc", "num_requests_running", "num_requests_waiting", "num_preemptions_total",
    "prefix_cache_queries_total",
})  # fmt: skip
_RATE = ("prompt_tokens_total", "prompt_tokens_cached_total", "request_prefill_time_seconds_sum")
_LINE = re.compile(r"^vllm:(\w+)(?:\{[^}\n]*\})? ([0-9.eE+-]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Counters:
    """What the engine core last reported; `rate`: prompt tokens per second of prefill, None before the first."""

    marks: tuple[tuple[str, str], ...]
    rate: float | None = None


def read(page: str) -> Counters | None:
    """Return the counters of vLLM's metrics page; None for one that shows none."""
    found = _LINE.findall(page)
    marks = tuple((name, value) for name, value in found if name in _MARKS)
    if not marks:
        return None
    sums = dict.fromkeys(_RATE, 0.0)
    for name, value in found:
        if name in sums:
            try:
                sums[name] += float(value)
            except ValueError:
                return None
    computed, seconds = sums[_RATE[0]] - sums[_RATE[1]], sums[_RATE[2]]
    return Counters(marks, computed / seconds if computed > 0 and seconds > 0 else None)


def patience(rate: float | None, step_tokens: int, longest: float, most: float) -> float:
    """Return for how many seconds counters may stand still; `longest`: the longest pause without an alarm."""
    if rate is None:
        return most
    return min(most, max(LEAST_S, MARGIN * step_tokens / rate, 2 * longest))


Alarm = Callable[[str], Awaitable[None]]


class Stall:
    """One target's, whose metrics are shown at `url`."""

    def __init__(self, url: str, step_tokens: int) -> None:
        self.url = url
        self.step_tokens = step_tokens
        self.longest = 0.0
        self._still: tuple[Counters, float] | None = None   # what stands still, and since when
        self._alarmed = False

    async def watch(
        self, session: aiohttp.ClientSession, lag: Lag, timeout_s: float, most: float, alarm: Alarm
    ) -> NoReturn:
        """Look while a probe waits, until cancelled; `alarm` is called as long as nothing moves for too long."""
        self._still = None
        await asyncio.sleep(SUSPECT_S)
        while True:
            began = time.monotonic()
            found = await self._look(session, timeout_s)
            wait = EVERY_S
            if found is None or lag.since(began):
                self._still = None
            else:
                wait = await self._judge(found, began, most, alarm)
            await asyncio.sleep(max(0.0, began + wait - time.monotonic()))

    def ended(self, *, well: bool) -> None:
        """The probe has ended: what stood still went on if it was answered."""
        if well and self._still:
            self._learn(time.monotonic() - self._still[1])
        self._still = None

    def _learn(self, pause: float) -> None:
        """An engine that is slow at times is waited for; one that came back after an alarm may have hung.

        Slow prefills lower the rate by themselves.
        """
        if not self._alarmed:
            self.longest = max(self.longest, pause)

    async def _judge(self, found: Counters, now: float, most: float, alarm: Alarm) -> float:
        """Return in how many seconds to look again."""
        if self._still is None or self._still[0].marks != found.marks:
            if self._still:
                self._learn(now - self._still[1])
            self._still, self._alarmed = (found, now), False
            return EVERY_S
        still = now - self._still[1]
        left = patience(found.rate, self.step_tokens, self.longest, most) - still
        if left > 0:
            return min(EVERY_S, left)
        self._alarmed = True
        await alarm(f"its server answers, but no token came and nothing moved for {still:.1f} s")
        return EVERY_S

    async def _look(self, session: aiohttp.ClientSession, timeout_s: float) -> Counters | None:
        limit = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with session.get(f"{self.url}/metrics", timeout=limit, allow_redirects=False) as answer:
                if answer.status != 200:
                    return None
                return read((await answer.read()).decode(errors="replace"))
        except (aiohttp.ClientError, TimeoutError):
            return None
