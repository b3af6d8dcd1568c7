"""Runs of a level in pairs, old and new one after the other: latency and output rate compared run by run. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.checks.compare import Comparison, compare
from orchestrator.checks.loadmetrics import Sample, e2e_ms, felt_ms, level_figures
from orchestrator.stats import percentile

SIDES = ("ollama", "vllm")
# A run's own p95 is a figure to pair, not one to print: it needs no interval, but more than the largest of a few.
LEAST_OF_RUN = 20
# More than one in twenty without an answer: the p95 is beyond every figure.
UNBOUNDED = 0.05


def pairs_of(samples: Sequence[Sample], runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return {repeat, ollama: figures, vllm: figures} for each repeat that both sides have run, in order.

    figures: {n, complete, p95_ms, tokens_per_s, tokens_mean, lag_ms}; None where the run cannot tell. lag_ms: how late
    the client itself was (p99).
    """
    repeats = sorted({run["repeat"] for run in runs})
    found = []
    for repeat in repeats:
        both = {side: _run(side, repeat, samples, runs) for side in SIDES}
        if all(both.values()):
            found.append({"repeat": repeat, **both})
    return found


def _run(side: str, repeat: int, samples: Sequence[Sample], runs: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    own = [run for run in runs if run["side"] == side and run["repeat"] == repeat]
    mine = [sample for sample in samples if sample["side"] == side and sample["repeat"] == repeat]
    if not own or not mine:
        return None
    figures = level_figures(mine, own)
    times = [felt_ms(s, e2e_ms(s)) for s in mine if s["outcome"] == "complete" and s["token_us"]]
    return {
        "n": figures["n"], "complete": figures["complete"], "tokens_per_s": figures["output_tokens_per_s"],
        "tokens_mean": figures["output_tokens_mean"],
        "lag_ms": max(figures["client"]["loop_lag_p99_ms"], figures["client"]["send_lag_p99_ms"]),
        "p95_ms": percentile(times, 95) if len(times) >= LEAST_OF_RUN else None,
    }  # fmt: skip


def compare_latency(pairs: Sequence[dict[str, Any]], factor: float, most: int) -> Comparison | None:
    """Compare the p95 of whole answers, vLLM's over Ollama's; None where Ollama left too many without an answer."""
    asked = sum(pair["ollama"]["n"] for pair in pairs)
    if asked and sum(pair["ollama"]["complete"] for pair in pairs) < (1 - UNBOUNDED) * asked:
        return None
    return _compare(pairs, "p95_ms", factor, most)


def compare_rate(pairs: Sequence[dict[str, Any]], factor: float, most: int) -> Comparison | None:
    """Compare output tokens per second, vLLM's over Ollama's; None where nothing is demanded."""
    if not factor:
        return None
    found = _compare([{"ollama": pair["vllm"], "vllm": pair["ollama"]} for pair in pairs], "tokens_per_s",
                     1 / factor, most)  # fmt: skip
    # Said as the demand is: how much more comes out, not how much longer it takes.
    ratio, low, high = (1 / one if one else None for one in (found.ratio, found.high, found.low))
    return Comparison(found.outcome, found.pairs, factor, ratio, low, high, found.needed)


def _compare(pairs: Sequence[dict[str, Any]], name: str, bound: float, most: int) -> Comparison:
    told = [pair for pair in pairs if pair["ollama"][name] and pair["vllm"][name]]
    return compare([one["ollama"][name] for one in told], [one["vllm"][name] for one in told], bound=bound, most=most)
