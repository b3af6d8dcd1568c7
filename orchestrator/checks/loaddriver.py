"""Drives a load plan inside the load process: warm-up, levels, and what they brought as lines on stdout."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import httpx

from orchestrator.checks import SideName
from orchestrator.checks.loadgauge import Gauge, quiet
from orchestrator.checks.loadloops import Bounds, Keyed, Round, closed_loop, open_loop
from orchestrator.checks.loadplan import LoadPlan, Run
from orchestrator.checks.loadpoll import Poll
from orchestrator.checks.loadreplay import Request, read
from orchestrator.checks.loadrequests import bodies, ready_made
from orchestrator.checks.loadsample import Shot, sample_of
from orchestrator.checks.loadshards import Helpers, merged, shards_for, share_of, users_of
from orchestrator.checks.loadspool import PACK_FROM, Spool
from orchestrator.clients.stream import StreamTransport, open_client
from orchestrator.names import canonical

_PROGRESS_S = 0.5
_PACK_S = 0.05
# An open loop cannot know how many connections it will need; the first ones are opened for it.
_OPEN_CONNECTIONS = 32


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
        self._captured: list[Request] = []
        self._place: dict[str, Any] = {}
        self._bounds = Bounds(0, plan.most_requests or sys.maxsize)
        self._round = Round()
        self._under_way: set[Shot] = set()
        self._spool = Spool()
        self._stopped = ""
        self._helpers: Helpers | None = None
        self._shard = plan.shard
        self._start_ns = 0
        self._may_go = asyncio.Event()

    def stop(self, reason: str) -> None:
        """Begin nothing more, and end what is under way."""
        self._stopped = self._bounds.reason = reason
        self._round.aborted += self._round.abort()
        self._may_go.set()
        if self._helpers:
            self._helpers.stop(reason)

    def go(self, start_ns: int) -> None:
        """Begin the level at this instant, together with other load processes."""
        self._start_ns = start_ns
        self._may_go.set()

    async def run(self) -> None:
        if self._plan.captured:
            self._captured, _ = read(Path(self._plan.captured.path), self._plan.captured.digest)
        begun = perf_counter_ns()
        ends = begun + int(self._plan.budget_s * 1e9) if self._plan.budget_s else sys.maxsize
        helpers = [asyncio.create_task(self._tell()), asyncio.create_task(self._pack())]
        reachable = {side.name: await self._warm_up(side.name) for side in self._plan.sides}
        for run in self._plan.runs():
            if perf_counter_ns() > ends:
                self._stopped = self._stopped or f"the test's time of {self._plan.budget_s:g} s was over"
            if self._bounds.left <= 0:
                self._stopped = self._stopped or f"the test's {self._plan.most_requests} requests were sent"
            if self._stopped:
                break
            if reachable[run.side]:
                answered = await self._level(run, ends)
                reachable[run.side] = answered or not self._plan.give_up
        if self._stopped:
            emit({"kind": "stopped", "reason": self._stopped})
        for helper in helpers:
            helper.cancel()
        for client in self._clients.values():
            await client.aclose()

    async def _tell(self) -> None:
        """Twice a second, where we are; also while nothing moves, so that the parent can act on a Ctrl-C."""
        while True:
            await asyncio.sleep(_PROGRESS_S)
            emit({"kind": "progress", **self._place, "done": len(self._round.shots)})

    async def _pack(self) -> None:
        """Keep small what long answers bring, while they run."""
        while True:
            await asyncio.sleep(_PACK_S)
            for shot in list(self._under_way):
                if shot.exchange and len(shot.exchange.pieces) >= PACK_FROM:
                    self._spool.pack(shot.exchange, shot.kept)

    async def _warm_up(self, side: SideName) -> bool:
        """Untimed requests first: lazy imports, cold connections and a cold model are not what is measured."""
        count = max(1, self._plan.warmup)
        self._place = {"phase": "warm-up", "side": side, "users": 1, "repeat": 0, "of": count}
        self._round = Round()
        loaded = await self._loaded() if side == "ollama" else None
        for number in range(count):
            if self._stopped:
                return False
            began = perf_counter_ns()
            shot = await self._alone(side, f"warm/{number}")
            if shot is None:
                return False
            self._round.shots.append(shot)
            self._bounds.left -= 1
            sample = sample_of(shot, began, self._spool.read(shot.kept))
            emit({"kind": "warmup", "side": side, "number": number, "loaded_before": loaded, **sample})
            loaded = True
            if sample["outcome"] != "complete":
                return False
        return True

    async def _loaded(self) -> bool | None:
        """Whether Ollama holds the model already: else the first request shows its cold start. None: not told."""
        try:
            response = await self._clients["ollama"].get("/api/ps", extensions={"total": 5.0})
            models = response.json()["models"] if response.status_code == 200 else None
            return None if models is None else any(canonical(one["name"]) == canonical(self._plan.model)
                                                   for one in models)  # fmt: skip
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return None

    async def _level(self, run: Run, ends: int) -> bool:
        """Run one level and tell what it brought; whether any request was answered."""
        level, done = run.level, Round()
        self._round, self._spool = done, Spool()
        await self._share(run, ends)
        self._place = {"phase": "level", **_where(run), "of": level.requests}
        requests = ready_made(bodies(self._plan, run, self._captured, self._shard), partial(self._request, run.side))
        await self._alone(run.side, f"prime/{level.label}/{run.repeat}")
        connections = min(_OPEN_CONNECTIONS, level.requests) if level.open else users_of(level.users, *self._shard)
        with suppress(httpx.HTTPError):  # the requests themselves will tell
            await self._transports[run.side].prepare(self._urls[run.side], connections)
        poll = Poll(self._clients[run.side], self._plan.replicas, self._plan.poll_s)
        watched = run.side == "vllm" and self._plan.poll_s > 0 and await poll.look(perf_counter_ns())
        poll.points.clear()
        gauge = Gauge()
        with quiet():
            start = await self._begin()
            self._bounds.deadline_ns = min(ends, start + int(self._plan.level_s * 1e9))
            watching = asyncio.create_task(poll.run(start)) if watched else None
            with gauge.running():
                await self._loop(run, requests, start, done)
            if watching:
                watching.cancel()
                await poll.look(start)
        return await self._report(run, done, gauge, start, poll)

    async def _share(self, run: Run, ends: int) -> None:
        """Start further load processes where this level needs them; without them if they do not get ready."""
        self._helpers = None
        if self._plan.only is not None:
            return
        count = self._plan.shards or shards_for(run.level, self._plan.max_tokens)
        left_s = (ends - perf_counter_ns()) / 1e9 if self._plan.budget_s else 0.0
        shares = [share_of(self._plan, run, number, count, left=self._bounds.left, budget_s=left_s)
                  for number in range(1, count)]  # fmt: skip
        with suppress(RuntimeError):
            self._helpers = await Helpers.start(shares) if shares else None
        self._shard = (0, count) if self._helpers else (0, 1)

    async def _begin(self) -> int:
        """The instant at which the level begins: now, or the common one of several processes."""
        if self._helpers:
            return self._helpers.go()
        if self._plan.only is None:
            return perf_counter_ns()
        emit({"kind": "ready"})
        await self._may_go.wait()
        return self._start_ns or perf_counter_ns()

    async def _loop(self, run: Run, requests: Iterator[Keyed], start: int, done: Round) -> None:
        async def shoot(request: httpx.Request, intended_ns: int, key: str) -> Shot:
            return await self._shoot(run.side, request, intended_ns, key)

        level, (mine, of) = run.level, self._shard
        if level.open:
            due = level.due_ns(self._plan.seed, [one.at for one in self._captured])[mine::of]
            await open_loop(shoot, requests, due, start, max(1, self._plan.max_in_flight // of), self._bounds, done)
        else:
            await asyncio.sleep(max(0.0, (start - perf_counter_ns()) / 1e9))
            await closed_loop(shoot, requests, users_of(level.users, mine, of), level.ramp_s, self._bounds, done)

    async def _alone(self, side: SideName, key: str) -> Shot | None:
        """One request outside the levels; None where the test was stopped meanwhile."""
        request = self._request(side, self._plan.body(key))
        task = asyncio.create_task(self._shoot(side, request, perf_counter_ns(), key))
        self._round.running = {task}
        await asyncio.wait([task])
        self._round.running = set()
        return None if task.cancelled() else task.result()

    async def _shoot(self, side: SideName, request: httpx.Request, intended_ns: int, key: str) -> Shot:
        shot = Shot(intended_ns, key)
        self._under_way.add(shot)
        try:
            # Past httpx's own client: its hooks, cookies and redirects would cost more than sending.
            response = await self._transports[side].handle_async_request(request)
            try:
                shot.exchange = response.extensions["exchange"]
                await shot.exchange.finished()
            finally:
                await response.aclose()
        except httpx.HTTPError as failure:
            shot.failure = failure
        finally:
            self._under_way.discard(shot)
        shot.ended_ns = perf_counter_ns()
        if shot.exchange:
            self._spool.pack(shot.exchange, shot.kept)
        return shot

    def _request(self, side: SideName, body: bytes) -> httpx.Request:
        return self._clients[side].build_request(
            "POST",
            "/v1/chat/completions",
            content=body,
            headers={"Content-Type": "application/json"},
            extensions={"total": self._plan.timeout_s},
        )

    async def _report(self, run: Run, done: Round, gauge: Gauge, start: int, poll: Poll) -> bool:
        answered, sent, chunks = False, len(done.shots), 0
        while done.shots:
            shot = done.shots.pop()
            chunks += len(shot.kept.stamps)
            sample = sample_of(shot, start, self._spool.read(shot.kept))
            answered = answered or sample["outcome"] == "complete"
            emit({"kind": "request", **_where(run), **sample})
        self._spool.close()
        line: dict[str, Any] = {
            "kind": "level",
            **_where(run),
            "planned": len(range(self._shard[0], run.level.requests, self._shard[1])),
            "sent": sent,
            "not_sent": done.not_sent,
            "aborted": done.aborted,
            "stopped": self._stopped,
            "start_ns": start,
            "chunks": chunks,
            **gauge.as_json(),
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "engine": poll.points,
            "slo": self._plan.slo,
        }
        if self._helpers:
            others = await self._helpers.collect(emit)
            self._bounds.left -= sum(one["sent"] for one in others)
            answered = answered or any(one["sent"] for one in others)
            line = merged(line, others, self._shard[1])
        emit(line)
        return answered


def _where(run: Run) -> dict[str, Any]:
    """The place of a line: `users` tells closed levels apart, `level` all of them."""
    level = run.level
    return {"side": run.side, "users": level.users, "level": level.label, "shape": level.shape, "repeat": run.repeat}


def emit(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")
    sys.stdout.flush()
