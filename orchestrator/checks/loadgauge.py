"""What the load client itself costs and adds while a level runs."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any

from orchestrator.stats import percentile

_TICK_S = 0.01


@dataclass
class Gauge:
    """Loop lag of a level (ms), and the CPU and time (s) that it took."""

    lags_ms: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    wall_s: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        probe = asyncio.create_task(self._probe())
        busy, begun = time.process_time(), time.perf_counter()
        try:
            yield
        finally:
            self.cpu_s, self.wall_s = time.process_time() - busy, time.perf_counter() - begun
            probe.cancel()

    async def _probe(self) -> None:
        """How late the loop serves a timer: what it adds to every stamp."""
        due = perf_counter_ns()
        while True:
            due = max(due, perf_counter_ns() - int(_TICK_S * 1e9)) + int(_TICK_S * 1e9)
            await asyncio.sleep((due - perf_counter_ns()) / 1e9)
            self.lags_ms.append(max(0.0, (perf_counter_ns() - due) / 1e6))

    def as_json(self) -> dict[str, Any]:
        return {
            "loop_lag_p99_ms": percentile(self.lags_ms, 99) if self.lags_ms else 0.0,
            "cpu_share": self.cpu_s / self.wall_s if self.wall_s else 0.0,
            "cpu_s": self.cpu_s,
            "wall_s": self.wall_s,
        }


@contextmanager
def quiet() -> Iterator[None]:
    """No garbage collection while stamps are taken: a full pass costs tens of milliseconds."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
