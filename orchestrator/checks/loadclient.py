"""The load process: `python -m orchestrator.checks.loadclient`, plan (one line of JSON) in, JSON lines out.

A process of its own, so that no progress bar delays a stamp. While a level runs nothing is parsed, logged or
collected; answers are read between levels. It ends when its parent's end of stdin closes.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any

import httpx

from orchestrator.checks import SideName
from orchestrator.checks.loadplan import LoadPlan, Run
from orchestrator.checks.loadsample import Shot, sample_of
from orchestrator.clients.stream import StreamTransport, open_client
from orchestrator.stats import percentile

_TICK_S = 0.01
_PROGRESS_S = 0.5
# All users starting in the same instant would measure the client's own queue.
_RAMP_S = 0.02


@dataclass
class Gauge:
    """What the client itself cost a level."""

    lags_ms: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    wall_s: float = 0.0


class LoadClient:
    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        self._transports = {side.name: StreamTransport() for side in plan.sides}
        self._clients = {
            side.name: open_client(
                side.base_url, headers=side.headers, idle_s=plan.timeout_s, transport=self._transports[side.name]
            )
            for side in plan.sides
        }
        self._urls = {side.name: side.base_url for side in plan.sides}
        self._place: dict[str, Any] = {}
        self._shots: list[Shot] = []

    async def run(self) -> None:
        teller = asyncio.create_task(self._tell())
        reachable = {side.name: await self._warm_up(side.name) for side in self._plan.sides}
        for run in self._plan.runs():
            if reachable[run.side]:
                await self._level(run)
        teller.cancel()
        for client in self._clients.values():
            await client.aclose()

    async def _tell(self) -> None:
        """Twice a second, where we are; also while nothing moves, so that the parent can act on a Ctrl-C."""
        while True:
            await asyncio.sleep(_PROGRESS_S)
            emit({"kind": "progress", **self._place, "done": len(self._shots)})

    async def _warm_up(self, side: SideName) -> bool:
        """Untimed requests first: lazy imports, cold connections and a cold model are not what is measured."""
        count = max(1, self._plan.warmup)
        self._place = {"phase": "warm-up", "side": side, "users": 1, "repeat": 0, "of": count}
        self._shots = []
        for number in range(count):
            began = perf_counter_ns()
            self._shots.append(await self._shoot(side, self._request(side, f"warm/{number}"), began))
            sample = sample_of(self._shots[-1], began)
            emit({"kind": "warmup", "side": side, "number": number, **sample})
            if sample["outcome"] != "complete":
                return False
        return True

    async def _level(self, run: Run) -> None:
        users, planned = run.level.users, run.level.requests
        shots = self._shots = []
        self._place = {"phase": "level", **_where(run), "of": planned}
        keys = [f"{users}/{run.repeat}/{number}" for number in range(planned)]
        requests = [self._request(run.side, key) for key in keys]
        await self._shoot(run.side, self._request(run.side, f"prime/{users}/{run.repeat}"), perf_counter_ns())
        with suppress(httpx.HTTPError):  # the requests themselves will tell
            await self._transports[run.side].prepare(self._urls[run.side], users)
        gauge = Gauge()
        with _quiet():
            start = perf_counter_ns()
            probe = asyncio.create_task(_probe(gauge))
            busy, begun = time.process_time(), time.perf_counter()
            queue = iter(requests)
            await asyncio.gather(*(self._user(n, run, start, queue, shots) for n in range(users)))
            gauge.cpu_s, gauge.wall_s = time.process_time() - busy, time.perf_counter() - begun
            probe.cancel()
        _report(run, shots, gauge, start)

    async def _user(self, number: int, run: Run, start: int, queue: Iterator[httpx.Request], shots: list[Shot]) -> None:
        await asyncio.sleep(number * _RAMP_S / run.level.users)
        deadline = start + int(self._plan.level_s * 1e9)
        for request in queue:
            intended = perf_counter_ns()
            if intended > deadline:
                return
            shots.append(await self._shoot(run.side, request, intended))

    async def _shoot(self, side: SideName, request: httpx.Request, intended_ns: int) -> Shot:
        shot = Shot(intended_ns)
        try:
            response = await self._clients[side].send(request, stream=True)
            try:
                shot.exchange = response.extensions["exchange"]
                await shot.exchange.finished()
            finally:
                await response.aclose()
        except httpx.HTTPError as failure:
            shot.failure = failure
        shot.ended_ns = perf_counter_ns()
        return shot

    def _request(self, side: SideName, key: str) -> httpx.Request:
        return self._clients[side].build_request(
            "POST",
            "/v1/chat/completions",
            content=self._plan.body(key),
            headers={"Content-Type": "application/json"},
            extensions={"total": self._plan.timeout_s},
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """No garbage collection while stamps are taken: a full pass costs tens of milliseconds."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


async def _probe(gauge: Gauge) -> None:
    """How late the loop serves a timer: what it adds to every stamp."""
    due = perf_counter_ns()
    while True:
        due = max(due, perf_counter_ns() - int(_TICK_S * 1e9)) + int(_TICK_S * 1e9)
        await asyncio.sleep((due - perf_counter_ns()) / 1e9)
        gauge.lags_ms.append(max(0.0, (perf_counter_ns() - due) / 1e6))


def _report(run: Run, shots: list[Shot], gauge: Gauge, start: int) -> None:
    samples = [sample_of(shot, start) for shot in shots]
    for sample in samples:
        emit({"kind": "request", **_where(run), **sample})
    emit(
        {
            "kind": "level",
            **_where(run),
            "planned": run.level.requests,
            "sent": len(shots),
            "loop_lag_p99_ms": percentile(gauge.lags_ms, 99) if gauge.lags_ms else 0.0,
            "cpu_share": gauge.cpu_s / gauge.wall_s if gauge.wall_s else 0.0,
            "wall_s": gauge.wall_s,
        }
    )


def _where(run: Run) -> dict[str, Any]:
    return {"side": run.side, "users": run.level.users, "repeat": run.repeat}


def emit(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    """The parent holds the other end of stdin; when it is gone, however it went, so are we."""
    descriptor = sys.stdin.fileno()
    if stat.S_ISFIFO(os.fstat(descriptor).st_mode):

        def at_end() -> None:
            if not os.read(descriptor, 4096):
                os._exit(3)

        asyncio.get_running_loop().add_reader(descriptor, at_end)


async def _serve(plan: LoadPlan) -> None:
    _end_with_parent()
    await LoadClient(plan).run()
    emit({"kind": "end"})


def main() -> None:
    plan = LoadPlan.from_json(json.loads(sys.stdin.buffer.readline()))
    try:
        asyncio.run(_serve(plan))
    except BrokenPipeError:
        os._exit(3)  # the parent has gone


if __name__ == "__main__":
    main()
