"""Whether a load test hurts those who use the server: how long they wait for a first token, before and now."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import httpx

from orchestrator.clients.gateway import LogRecord
from orchestrator.errors import MigrateError

INFERENCE = ("/api/chat", "/api/generate", "/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses")
_LOOK_S = 2.0
_PROBE_EVERY_S = 5.0
_BEFORE = 3     # probes, one after the other
_HUNG_S = 120.0
_BLIND = 3      # looks in a row that told nothing


@dataclass(frozen=True)
class LiveBound:
    """Live users may wait `factor` times as long as before, and `floor_ms` more than that; medians are compared.

    `least` requests within `window_s` are needed to say anything.
    """

    factor: float = 2.0
    floor_ms: float = 500.0
    least: int = 3
    window_s: float = 30.0

    def __str__(self) -> str:
        return f"live users may wait {self.factor:g} times as long for a first token as before + {self.floor_ms:g} ms"


def hurts(before: Sequence[float], now: Sequence[float], bound: LiveBound, who: str) -> str:
    """Why the load should stop, empty if it need not: waits in ms, before the load and within the window. Pure."""
    if not bound.factor or not before or len(now) < bound.least:
        return ""
    was, is_ = median(before), median(now)
    if is_ <= was * bound.factor + bound.floor_ms:
        return ""
    return (f"{who} wait {is_:.0f} ms for a first token (median of {len(now)}), before the load {was:.0f} ms; "
            f"allowed is {bound.factor:g} times that and {bound.floor_ms:g} ms")  # fmt: skip


@dataclass
class GatewayWatch:
    """Live requests in the gateway's own log: those that no check forced to a side."""

    read: Callable[[int], tuple[list[LogRecord], int]]
    offset: int
    before: Sequence[LogRecord]
    bound: LiveBound
    _seen: list[LogRecord] = field(default_factory=list)
    _looked: float = float("-inf")
    _blind: int = 0

    def check(self) -> str:
        """Look at most every two seconds; the reason to stop, or nothing."""
        if time.monotonic() - self._looked < _LOOK_S:
            return ""
        self._looked = time.monotonic()
        try:
            fresh, self.offset = self.read(self.offset)
        except MigrateError as error:
            self._blind += 1
            return f"nobody tells how live users fare: {error.message}" if self._blind >= _BLIND else ""
        self._blind = 0
        self._seen = [one for one in [*self._seen, *fresh] if one.ts > time.time() - self.bound.window_s - _HUNG_S]
        return self.judge(time.time())

    def judge(self, now: float) -> str:
        """The reason to stop at this moment (epoch seconds); each side is compared with itself."""
        for side in ("ollama", "vllm"):
            was = _waits([one for one in self.before if one.side == side])
            recent = [one for one in self._seen if one.side == side and _end(one) > now - self.bound.window_s]
            reason = hurts(was, _waits(recent), self.bound, f"live users of {side}")
            if reason:
                return reason
        return ""

    @property
    def live(self) -> int:
        return len(_waits(self.before))


def _end(record: LogRecord) -> float:
    return record.ts + record.total_ms / 1000


def _waits(records: Sequence[LogRecord]) -> list[float]:
    return [one.ttft_ms if one.ttft_ms is not None else one.total_ms for one in records
            if not one.forced and one.method == "POST" and one.outcome != "client_left"
            and one.uri.split("?")[0] in INFERENCE]  # fmt: skip


class ProbeWatch:
    """Asks the public address for one token now and then, as a live user would; for an Ollama without the gateway.

    `ask` returns how long one token took, in ms; it raises httpx.HTTPError.
    """

    live = 0

    def __init__(self, ask: Callable[[], float], bound: LiveBound, every_s: float = _PROBE_EVERY_S) -> None:
        self._ask, self._bound, self._every_s = ask, bound, every_s
        self.before: list[float] = []
        self._waits: list[tuple[float, float]] = []
        self._asked_at: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def begin(self) -> None:
        """Ask a few times before there is any load, then go on beside it; httpx.HTTPError if nobody answers."""
        self._ask()     # the first one may load the model
        self.before = [self._ask() for _ in range(_BEFORE)]
        self._thread.start()

    def end(self) -> None:
        self._ended.set()

    def check(self) -> str:
        now, asked = time.monotonic(), self._asked_at
        waits = [wait for at, wait in list(self._waits) if at > now - self._bound.window_s]
        if asked is not None:
            waits.append((now - asked) * 1000)      # it waits at least so long
        patient = LiveBound(self._bound.factor, self._bound.floor_ms, 1, self._bound.window_s)
        return hurts(self.before, waits[-1:], patient, "live users")

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            self._asked_at = time.monotonic()
            try:
                wait = self._ask()
            except httpx.HTTPError:
                wait = _HUNG_S * 1000
            self._waits.append((time.monotonic(), wait))
            self._asked_at = None


def one_token(url: str, model: str, headers: dict[str, str]) -> Callable[[], float]:
    """A probe of the server at `url`: how long one token takes, ms. Raises httpx.HTTPError, also for a refusal."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, "stream": False}
    client = httpx.Client(base_url=url, headers=headers, timeout=httpx.Timeout(_HUNG_S, connect=5.0), trust_env=False)

    def ask() -> float:
        began = time.perf_counter()
        client.post("/v1/chat/completions", json=body).raise_for_status()
        return (time.perf_counter() - began) * 1000

    return ask
