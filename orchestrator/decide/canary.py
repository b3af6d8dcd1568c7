"""Judges a traffic step on the gateway's own records: pure, so that anyone can recompute it from the access log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from orchestrator import stats
from orchestrator.spec import Thresholds

Result = Literal["pass", "fail", "inconclusive"]

# A ratio of medians means nothing while both are tiny: it counts only beyond this difference.
NOTICEABLE_MS = 50.0


@dataclass(frozen=True, slots=True)
class Side:
    """What one side did with live requests of the judged routes. Milliseconds; medians over complete answers."""

    requests: int
    bad: int
    refusing: int   # complete answers with a status of 400 or more: explicit, but not what was asked for
    outcomes: dict[str, int]
    ttft_p50: float | None
    ttft_p95: float | None
    e2e_p50: float | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """Verdict with the numbers it came from; `needed` is how many more vLLM requests a verdict asks for."""

    result: Result
    reasons: tuple[str, ...]
    vllm: Side
    ollama: Side
    needed: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def side_of(records: Iterable[Mapping[str, Any]], side: str) -> Side:
    """Summarise the live records of one side. A request that one side failed and the other answered counts for
    both: as a bad one of the former and as an answer of the latter. A client that left says nothing about the engine.
    """
    outcomes: dict[str, int] = {}
    ttft: list[float] = []
    total: list[float] = []
    refusing = 0
    for record in records:
        if record.get("forced") or record.get("outcome") == "client_left":
            continue
        if record.get("side") != side:
            if record.get("failover"):
                outcomes["failed over"] = outcomes.get("failed over", 0) + 1
            continue
        outcome = str(record["outcome"])
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        if outcome == "complete" and int(record.get("status", 0)) >= 400:
            refusing += 1
        elif outcome == "complete":
            held = float(record.get("held_ms") or 0)    # the gateway's waiting, no engine's
            total.append(float(record["total_ms"]) - held)
            if record.get("ttft_ms") is not None:
                ttft.append(float(record["ttft_ms"]) - held)
    number = sum(outcomes.values())
    bad = number - outcomes.get("complete", 0)
    return Side(number, bad, refusing, outcomes, _p(ttft, 50), _p(ttft, 95), _p(total, 50))


def judge(
    records: Iterable[Mapping[str, Any]], thresholds: Thresholds, min_requests: int, control: Side | None = None
) -> Judgement:
    """Judge one step. `control` replaces Ollama's side where no live control is left (100 %)."""
    seen = list(records)
    vllm, live = side_of(seen, "vllm"), side_of(seen, "ollama")
    ollama = control if control and live.requests < min_requests else live
    broken = _broken(vllm, ollama, thresholds, min_requests)
    if broken:
        return Judgement("fail", tuple(broken), vllm, ollama)
    needed = max(0, min_requests - vllm.requests)
    if needed:
        return Judgement("inconclusive", (f"{needed} more vLLM requests needed",), vllm, ollama, needed)
    share = vllm.bad / vllm.requests if vllm.requests else 0.0
    refused = _share(vllm) - _share(ollama)
    if share > thresholds.error_rate or refused > thresholds.error_rate:
        count = f"{vllm.bad} of {vllm.requests} vLLM requests were bad" if share > thresholds.error_rate else (
            f"{vllm.refusing} of {vllm.requests} vLLM answers were refusals (4xx), Ollama's {ollama.refusing} of "
            f"{ollama.requests}"
        )
        reason = f"{count}: too few to tell chance from fault"
        return Judgement("inconclusive", (reason,), vllm, ollama, max(1, vllm.requests))
    return Judgement("pass", (_fine(vllm, ollama),), vllm, ollama)


def _broken(vllm: Side, ollama: Side, limits: Thresholds, least: int) -> list[str]:
    reasons = []
    if vllm.requests:
        interval = stats.wilson(vllm.bad, vllm.requests, confidence=0.90)
        if vllm.bad >= 2 and interval.low > limits.error_rate:
            kinds = ", ".join(f"{n} {kind}" for kind, n in vllm.outcomes.items() if kind != "complete")
            reasons.append(
                f"{vllm.bad} of {vllm.requests} vLLM requests were bad ({kinds}): more than "
                f"{limits.error_rate:.1%} beyond chance"
            )
        refusals = stats.wilson(vllm.refusing, vllm.requests, confidence=0.90)
        if vllm.refusing >= 2 and refusals.low > limits.error_rate + _share(ollama):
            reasons.append(
                f"{vllm.refusing} of {vllm.requests} vLLM answers were refusals (4xx), on Ollama {ollama.refusing} of "
                f"{ollama.requests}: more than {limits.error_rate:.1%} beyond chance"
            )
    if vllm.requests < max(least, 5):
        return reasons
    if limits.ttft_p95 is not None and vllm.ttft_p95 is not None and vllm.ttft_p95 > limits.ttft_p95 * 1000:
        reasons.append(f"TTFT p95 {vllm.ttft_p95:.0f} ms is over the limit of {limits.ttft_p95 * 1000:.0f} ms")
    if ollama.requests >= 5:
        reasons += _slower("TTFT", vllm.ttft_p50, ollama.ttft_p50, limits.ttft_ratio)
        reasons += _slower("total time", vllm.e2e_p50, ollama.e2e_p50, limits.e2e_ratio)
    return reasons


def _share(side: Side) -> float:
    return side.refusing / side.requests if side.requests else 0.0


def _slower(what: str, new: float | None, old: float | None, limit: float | None) -> list[str]:
    if new is None or old is None or limit is None or old <= 0:
        return []
    if new / old > limit and new - old > NOTICEABLE_MS:
        return [f"median {what} {new:.0f} ms against {old:.0f} ms on Ollama: more than {limit:g} times"]
    return []


def _fine(vllm: Side, ollama: Side) -> str:
    text = f"{vllm.requests} vLLM requests, {vllm.bad} bad"
    if vllm.ttft_p50 is not None:
        text += f", median TTFT {vllm.ttft_p50:.0f} ms"
        if ollama.ttft_p50 is not None:
            text += f" (Ollama {ollama.ttft_p50:.0f} ms)"
    return text


def _p(values: list[float], q: float) -> float | None:
    return stats.percentile(values, q) if values else None
