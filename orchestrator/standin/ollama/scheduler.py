"""Which models are in memory, who may use them now, and who waits.

A warm model's queue has no limit; only requests that wait for a load count against OLLAMA_MAX_QUEUE. One
model loads at a time. A model whose last request ended stays until its keep-alive has passed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from orchestrator.standin.ledger import Ledger
from orchestrator.standin.ollama import golang, logs
from orchestrator.standin.ollama.models import Model
from orchestrator.standin.ollama.settings import Settings

COMPUTE_BYTES = 256 * 1024**2
SPILL_FACTOR = 10


class Busy(Exception):
    """Too many requests wait for a load."""


@dataclass
class Runner:
    """One loaded model. `expires` is an epoch in nanoseconds."""

    model: Model
    context: int
    parallel: int
    size: int
    vram: int
    keep_alive: int
    started_ns: int = field(default_factory=time.time_ns)
    users: int = 0
    active: int = 0
    timer: asyncio.Task[None] | None = None
    gone: bool = False
    expires: int = 0

    def __post_init__(self) -> None:
        self.slots = asyncio.Semaphore(self.parallel)

    @property
    def key(self) -> str:
        return self.model.name

    @property
    def spilled(self) -> bool:
        return 0 < self.vram < self.size


@dataclass
class Turn:
    """A request's turn at a runner: how long the load took (ns), and the delay of one token (s)."""

    runner: Runner
    load_ns: int
    settings: Settings

    @property
    def token_s(self) -> float:
        crowd = 1 + 0.3 * max(0, self.runner.active - 1)
        return self.settings.token_s * crowd * (SPILL_FACTOR if self.runner.spilled else 1)

    @property
    def prompt_s(self) -> float:
        return self.settings.prompt_s * (SPILL_FACTOR if self.runner.spilled else 1)


class Scheduler:
    """All runners of one server."""

    def __init__(self, settings: Settings, ledger: Ledger | None) -> None:
        self.settings = settings
        self.ledger = ledger
        self.runners: dict[str, Runner] = {}
        self._loading = asyncio.Lock()
        self._waiting = 0
        self._idle = asyncio.Event()
        self._chores: set[asyncio.Task[None]] = set()

    def default_context(self) -> int:
        gpus = self.ledger.mine() if self.ledger else []
        return self.settings.default_context(sum(gpu.total for gpu in gpus))

    @asynccontextmanager
    async def turn(
        self, model: Model, context: int | None, keep_alive: int | None, loaded: Callable[[], None]
    ) -> AsyncIterator[Turn]:
        """Hold one slot of the model, loading it first; `loaded` is called before the wait for the slot."""
        began = time.monotonic_ns()
        runner = await self.hold(model, context, keep_alive)
        load_ns = time.monotonic_ns() - began
        loaded()
        try:
            async with runner.slots:
                runner.active += 1
                try:
                    yield Turn(runner, load_ns, self.settings)
                finally:
                    runner.active -= 1
        finally:
            self.drop(runner)

    async def hold(self, model: Model, context: int | None, keep_alive: int | None) -> Runner:
        """Return the model's runner, loaded, and keep it in memory until `drop`."""
        wanted = min(context or self.default_context(), model.weights.context)
        runner = self._fitting(model, wanted)
        if runner is None:
            runner = await self._queue(model, wanted)
        runner.users += 1
        if runner.timer:
            runner.timer.cancel()
        runner.keep_alive = self.settings.keep_alive if keep_alive is None else keep_alive
        self._extend(runner)
        return runner

    def drop(self, runner: Runner) -> None:
        """Let go of a runner; when nobody uses it, its keep-alive begins."""
        runner.users -= 1
        self._extend(runner)
        if runner.users == 0:
            self._idle.set()
            if runner.keep_alive >= 0 and not runner.gone:
                runner.timer = self._chore(self._expire(runner))

    def expire(self, model: Model) -> None:
        """Unload a model as soon as nobody uses it."""
        runner = self.runners.get(model.name)
        if runner:
            runner.keep_alive = 0
            if runner.users == 0:
                self._unload(runner)

    def _fitting(self, model: Model, context: int) -> Runner | None:
        runner = self.runners.get(model.name)
        same = runner and runner.context == context and runner.model.digest == model.digest
        return runner if same else None

    async def _queue(self, model: Model, context: int) -> Runner:
        if self._loading.locked() and self._waiting >= self.settings.max_queue:
            raise Busy
        self._waiting += 1
        try:
            await self._loading.acquire()
        finally:
            self._waiting -= 1
        try:
            return self._fitting(model, context) or await self._load(model, context)
        finally:
            self._loading.release()

    async def _load(self, model: Model, context: int) -> Runner:
        await self._make_room(model)
        parallel = 1 if model.weights.pooling else self.settings.num_parallel
        size = model.weights.size + model.weights.kv_bytes(context * parallel) + COMPUTE_BYTES
        logs.note(
            "llama_server.go:433", "starting llama-server",
            cmd=f"/usr/lib/ollama/llama-server --model {model.blob} -c {context * parallel} -np {parallel}",
        )  # fmt: skip
        vram = self._place(model, size)
        try:
            await asyncio.sleep(self.settings.load_s)
        except asyncio.CancelledError:
            logs.note(
                "llama_server.go:1301", "client connection closed before llama-server finished loading, aborting load",
                level="WARN",
            )  # fmt: skip
            self._give_back(model.name)
            raise
        layers = model.weights.layers + 1
        if self.ledger:
            logs.plain(f"load_tensors: offloaded {layers * vram // size}/{layers} layers to GPU")
        logs.note("sched.go:600", "loaded runners", count=len(self.runners) + 1)
        logs.note("llama_server.go:1362", f"llama-server started in {self.settings.load_s:.2f} seconds")
        runner = Runner(model, context, parallel, size, vram, self.settings.keep_alive)
        self.runners[runner.key] = runner
        return runner

    async def _make_room(self, model: Model) -> None:
        """Unload the same model with other options, and idle models beyond the limit."""
        gpus = len(self.ledger.mine()) if self.ledger else 0
        most = self.settings.max_loaded or 3 * max(1, gpus)
        while True:
            same = self.runners.get(model.name)
            if same is None and len(self.runners) < most:
                return
            idle = [r for r in self.runners.values() if r.users == 0]
            victim = same or min(idle, key=lambda r: r.expires, default=None)
            if victim and victim.users == 0:
                self._unload(victim)
                continue
            self._idle.clear()
            await self._idle.wait()

    def _place(self, model: Model, size: int) -> int:
        """Take VRAM for a model: on one device if it fits, else on all; returns what was taken."""
        if not self.ledger:
            return 0
        gpus = self.ledger.mine()
        roomy = max(gpus, key=lambda gpu: gpu.free, default=None)
        if roomy is None:
            return 0
        if roomy.free >= size:
            return self.ledger.allocate(roomy.index, size, model.name)
        left = size
        for gpu in gpus:
            left -= self.ledger.allocate(gpu.index, left, model.name)
        return size - left

    def _give_back(self, name: str) -> None:
        if self.ledger:
            self.ledger.release(name)

    def _unload(self, runner: Runner) -> None:
        runner.gone = True
        if runner.timer:
            runner.timer.cancel()
        if self.runners.get(runner.key) is runner:
            del self.runners[runner.key]
        self._give_back(runner.key)
        self._idle.set()

    def _extend(self, runner: Runner) -> None:
        ahead = golang.FOREVER if runner.keep_alive < 0 else runner.keep_alive
        runner.expires = time.time_ns() + ahead

    async def _expire(self, runner: Runner) -> None:
        await asyncio.sleep(runner.keep_alive / golang.SECOND)
        if runner.users == 0 and not runner.gone:
            runner.timer = None
            self._unload(runner)

    def _chore(self, work: object) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)
        return task
