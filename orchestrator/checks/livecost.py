"""What a loaded vLLM does to those whom Ollama serves on the same GPU: short questions now and then, before, during
and after. Reported, and judged by nobody: whether it may be so is not ours to say. Figures are pure.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from orchestrator.checks import Side
from orchestrator.stats import order_interval, percentile

BEFORE_N = 6        # questions before the load, and again after it
EVERY_S = 1.0       # pause between two: nobody is hurt by the question
LEVEL_S = 20.0      # how long vLLM is loaded meanwhile
_TOKENS = 8
_PATIENCE_S = 60.0
Probe = dict[str, Any]


def live_cost(probes: Sequence[Probe]) -> dict[str, Any] | None:
    """Return {alone, beside, ratio, failed, says} of probes {phase, ms, error}; None without any.

    alone: before and after the load together, so that a drift of the machine is not taken for its effect; beside:
    during it. Each {n, p50_ms, p95_ms, interval}; the interval is that of the median, p95 from 20 on.
    """
    if not probes:
        return None
    alone = _figures([one for one in probes if one["phase"] != "during"])
    beside = _figures([one for one in probes if one["phase"] == "during"])
    ratio = beside["p50_ms"] / alone["p50_ms"] if alone["p50_ms"] and beside["p50_ms"] else None
    failed = {"alone": alone["n"] - alone["answered"], "beside": beside["n"] - beside["answered"]}
    return {"alone": alone, "beside": beside, "ratio": ratio, "failed": failed,
            "says": _says(alone, beside, ratio, failed["beside"])}  # fmt: skip


def _figures(probes: Sequence[Probe]) -> dict[str, Any]:
    times = [one["ms"] for one in probes if one["ms"] is not None]
    interval = order_interval(times, 50)
    return {
        "n": len(probes), "answered": len(times), "p50_ms": percentile(times, 50) if times else None,
        "p95_ms": percentile(times, 95) if len(times) >= 20 else None,
        "interval": [interval.low, interval.high] if interval else None,
    }  # fmt: skip


def _says(alone: Probe, beside: Probe, ratio: float | None, failed: int) -> str:
    lost = f"; {failed} of {beside['n']} questions went unanswered" if failed else ""
    if ratio is None:
        return f"what vLLM's load does to Ollama's users could not be measured{lost}"
    return (f"while vLLM is loaded, a short answer of Ollama takes {ratio:.2f} times as long "
            f"(median {alone['p50_ms']:.0f} ms alone, {beside['p50_ms']:.0f} ms beside it){lost}")  # fmt: skip


class Prober:
    """Asks Ollama one question at a time; `probes` grows."""

    def __init__(self, side: Side, model: str, every_s: float = EVERY_S) -> None:
        self._body = {"model": model, "messages": [{"role": "user", "content": "Count to five."}],
                      "max_tokens": _TOKENS, "temperature": 0, "stream": False}  # fmt: skip
        self._url, self._headers, self._every_s = f"{side.base_url}/v1/chat/completions", side.headers, every_s
        self.probes: list[Probe] = []

    def few(self, phase: str, count: int = BEFORE_N, check: Callable[[], None] = lambda: None) -> None:
        """Ask `count` times; the first question of all warms up and is not kept."""
        if not self.probes:
            self._ask()
        for _ in range(count):
            check()
            self.probes.append({"phase": phase, **self._ask()})
            time.sleep(self._every_s)

    @contextmanager
    def meanwhile(self) -> Iterator[None]:
        """Go on asking while something else runs."""
        ended = threading.Event()
        thread = threading.Thread(target=self._run, args=(ended,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(_PATIENCE_S)

    def _run(self, ended: threading.Event) -> None:
        while not ended.is_set():
            found = self._ask()
            # One that ended after the load is neither the one nor the other.
            if not ended.is_set():
                self.probes.append({"phase": "during", **found})
            ended.wait(self._every_s)

    def _ask(self) -> Probe:
        began = time.perf_counter()
        try:
            answer = httpx.post(self._url, json=self._body, headers=self._headers,
                                timeout=httpx.Timeout(_PATIENCE_S, connect=5.0), trust_env=False)  # fmt: skip
            answer.raise_for_status()
        except httpx.HTTPError as error:
            return {"ms": None, "error": str(error) or type(error).__name__}
        return {"ms": (time.perf_counter() - began) * 1000, "error": None}
