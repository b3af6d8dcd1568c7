"""From the figures of a load test to its verdict, every reason named. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any

from orchestrator.checks import Judgement
from orchestrator.checks.compare import Comparison
from orchestrator.checks.loadbefore import against_baseline
from orchestrator.checks.loadmetrics import limits
from orchestrator.checks.loadruns import compare_latency, compare_rate
from orchestrator.stats import share_interval

Reason = dict[str, Any]
_WORDS: dict[str, Judgement] = {"worse": "fail", "not worse": "pass", "inconclusive": "inconclusive"}


def judged(evidence: dict[str, Any]) -> tuple[Judgement, str]:
    """Return result and summary; adds to the evidence `reasons`, {what, result, why}, and the `comparison`.

    fail: any reason fails; inconclusive: any cannot say; pass: none of both.
    """
    reasons = _reasons(evidence)
    evidence["reasons"] = reasons
    for result in ("fail", "inconclusive"):
        told = [one["why"] for one in reasons if one["result"] == result]
        if told:
            cut = f"; it ended early: {evidence['stopped']}" if result == "inconclusive" and evidence["stopped"] else ""
            return result, "; ".join(told) + cut
    return "pass", "; ".join(one["why"] for one in reasons) + f", at {evidence['judged_at']} users"


def wants_pairs(evidence: dict[str, Any]) -> bool:
    """Whether more pairs of runs could still give the verdict."""
    terms, left = evidence["thresholds"], [one for one in evidence["reasons"] if one["result"] != "pass"]
    return bool(left) and all("needed" in one for one in left) and len(evidence["pairs"]) < terms["most_pairs"]


def _reasons(evidence: dict[str, Any]) -> list[Reason]:
    for stage in (_before, _failures, _doubts):
        found = list(stage(evidence))
        if found:
            return found
    return _compared(evidence)


def _reason(what: str, result: Judgement, why: str, **more: Any) -> Reason:
    return {"what": what, "result": result, "why": why, **more}


def _before(evidence: dict[str, Any]) -> Iterator[Reason]:
    for failure in sorted(evidence["warmup_failures"], key=lambda one: one["side"] != "vllm"):
        why = f"{failure['side']} failed the warm-up: {failure['outcome']}, {failure['error']}"
        if failure["side"] == "vllm":
            yield _reason("warm-up", "fail", why)
        elif evidence["baseline"] is None:
            yield _reason("warm-up", "inconclusive", why)
        else:
            yield from list(_failures(evidence)) or against_baseline(evidence, why)
            yield from _objectives(_top(evidence), evidence["thresholds"])
        return
    if not evidence["levels"]:
        yield _reason("levels", "inconclusive", "no level was run")


def _failures(evidence: dict[str, Any]) -> Iterator[Reason]:
    """The first level at which vLLM failed more than is allowed; a timeout is never allowed."""
    for level in evidence["levels"]:
        new = level["vllm"]
        if not new["n"]:
            continue
        late = new["outcomes"].get("timeout", 0)
        if late or new["failed_share"] > evidence["thresholds"]["error_rate"]:
            why = f"vLLM failed {_kinds(new)} of {new['n']} requests at {level['users']} users"
            yield _reason("timeouts" if late else "failures", "fail", why)
            return


def _top(evidence: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in evidence["levels"] if one["users"] == evidence["judged_at"])
    return found


def _doubts(evidence: dict[str, Any]) -> Iterator[Reason]:
    """Why the level that judges cannot."""
    top, terms = _top(evidence), evidence["thresholds"]
    for side in ("ollama", "vllm"):
        figures = top[side]
        answered = figures["complete"] if side == "vllm" else figures["n"]
        too_few = side == "vllm" and figures["e2e_ms"]["p95"]["value"] is None
        if answered < terms["min_n"] or too_few or not figures["complete"]:
            why = f"at {top['users']} users: {side} completed {figures['complete']} requests, a p95 needs "
            yield _reason("requests", "inconclusive", f"{why}{terms['min_n']}")
            return


def _compared(evidence: dict[str, Any]) -> list[Reason]:
    top, terms, pairs = _top(evidence), evidence["thresholds"], evidence["pairs"]
    latency = compare_latency(pairs, terms["latency_factor"], terms["most_pairs"])
    rate = compare_rate(pairs, terms["throughput_factor"], terms["most_pairs"])
    length = top["vllm"]["output_tokens_mean"] / top["ollama"]["output_tokens_mean"]
    points = {name: _point(pairs, key) for name, key in (("latency", "p95_ms"), ("rate", "tokens_per_s"))}
    evidence["comparison"] = {
        "users": top["users"], "pairs": len(pairs), "latency": latency.to_json() if latency else None,
        "output_rate": rate.to_json() if rate else None, "output_length_ratio": length,
        "latency_p95_ratio": (latency.ratio or points["latency"]) if latency else None,
        "output_rate_ratio": (rate.ratio if rate else None) or points["rate"],
    }  # fmt: skip
    unequal = _unequal(latency, length, terms)
    if unequal:
        return [_reason("answer length", "inconclusive", f"at {top['users']} users: {unequal}")]
    reasons = [_latency(latency, points["latency"], terms), _rate(rate, points["rate"]), *_objectives(top, terms)]
    return _as_far_as_the_client(evidence, latency, rate, reasons)


def _unequal(latency: Comparison | None, length: float, terms: dict[str, Any]) -> str:
    """Longer answers excuse slowness, shorter ones explain speed: neither says anything about the engine."""
    slow = latency is not None and latency.ratio is not None and latency.ratio > terms["latency_factor"]
    if (slow and length > terms["length_factor"]) or (not slow and length < 1 / terms["length_factor"]):
        return f"unequal work: vLLM's answers are {length:.2f} times as long as Ollama's"
    return ""


def _latency(found: Comparison | None, point: float | None, terms: dict[str, Any]) -> Reason:
    if found is None:
        return _reason("latency", "pass", "p95 below that of Ollama, which left more than one in twenty unanswered")
    said = f"p95 {_range(found, point)} times Ollama's"
    if found.outcome == "worse":
        return _reason("latency", "fail", f"too slow: {said} (allowed {terms['latency_factor']:g})")
    return _told("latency", found, said, f"allowed {terms['latency_factor']:g}")


def _rate(found: Comparison | None, point: float | None) -> Reason:
    if found is None:
        return _reason("output rate", "pass", f"output {point:.2f} times Ollama's" if point else "no output demanded")
    said = f"output {_range(found, point)} times Ollama's"
    if found.outcome == "worse":
        return _reason("output rate", "fail", f"too little throughput: {said} (demanded {found.bound:g})")
    return _told("output rate", found, said, f"demanded more than {found.bound:g}")


def _told(what: str, found: Comparison, said: str, terms: str) -> Reason:
    if found.decided:
        return _reason(what, "pass", said)
    more = f"about {found.needed} more pairs of runs" if found.needed else "more pairs than anybody would run"
    return _reason(what, "inconclusive", f"{what} not decided: {said} ({terms}), needs {more}", needed=found.needed)


def _range(found: Comparison, point: float | None) -> str:
    if found.low is None or found.high is None or found.ratio is None:
        return f"{point:.2f} (one pair, no interval)" if point else "an unknown number of"
    low, high = (_number(one) for one in (found.low, found.high))
    return f"{found.ratio:.2f} ({low} to {high}, {found.pairs} pairs)"


def _number(value: float) -> str:
    return f"{value:.2f}" if 0.005 <= value < 1000 else f"{value:.1g}"


def _objectives(top: dict[str, Any], terms: dict[str, Any]) -> Iterator[Reason]:
    """Whether enough requests met every objective; the interval keeps a bad draw from failing."""
    good = top["vllm"].get("goodput")
    if not good or not good["n"]:
        return
    least, high = terms["slo_share"], share_interval(good["met"], good["n"]).high
    missed = "".join(f"; {count} missed {name}" for name, count in good["missed"].items() if count)
    said = f"{good['share']:.1%} of vLLM's requests met the objectives (demanded {least:.0%}{missed})"
    if good["share"] >= least:
        yield _reason("objectives", "pass", f"{good['share']:.1%} within the objectives")
    else:
        yield _reason("objectives", "fail", said) if high < least else _reason(
            "objectives", "inconclusive", f"objectives not decided: {said}", needed=None)  # fmt: skip


def _as_far_as_the_client(
    evidence: dict[str, Any], latency: Comparison | None, rate: Comparison | None, reasons: list[Reason]
) -> list[Reason]:
    """A lagging client only makes a server look slower: it can spoil a fail of vLLM, or a pass through Ollama's.

    Each run counts once, so one in which the machine stalled moves the mean little: what counts is the median run.
    """
    top = _top(evidence)
    late = {side: median(pair[side]["lag_ms"] for pair in evidence["pairs"]) for side in ("ollama", "vllm")}
    if any(one["result"] == "fail" for one in reasons):
        why = top["vllm"]["client_limited"].get("e2e_ms")
        if not why or not limits(_with_lag(top["vllm"], late["vllm"])).get("e2e_ms"):
            return reasons
        spoilt = [{**one, "result": "inconclusive"} if one["result"] == "fail" else one for one in reasons]
        return [*spoilt, _reason("client", "inconclusive", f"but the load client was the bottleneck on vllm: {why}")]
    terms = evidence["thresholds"]
    if any(one["result"] != "pass" for one in reasons) or _stands(top["ollama"], late["ollama"], latency, rate, terms):
        return reasons
    why = top["ollama"]["client_limited"]["e2e_ms"]
    return [*reasons, _reason("client", "inconclusive", f"the load client was the bottleneck on ollama: {why}")]


def _with_lag(figures: dict[str, Any], late: float) -> dict[str, Any]:
    return {**figures, "client": {**figures["client"], "loop_lag_p99_ms": late, "send_lag_p99_ms": 0.0}}


def _stands(
    old: dict[str, Any], late: float, latency: Comparison | None, rate: Comparison | None, terms: dict[str, Any]
) -> bool:
    """Whether a pass holds even if Ollama was faster by all that the client lagged."""
    if "e2e_ms" not in old["client_limited"] or latency is None:
        return True
    p95, p50 = old["e2e_ms"]["p95"]["value"], old["e2e_ms"]["p50"]["value"]
    if p50 is None or p95 is None or late >= min(p50, p95) or latency.high is None:
        return False
    slower = latency.high * p95 / (p95 - late)
    enough = rate is None or rate.low is None or rate.low * (p50 - late) / p50 >= terms["throughput_factor"]
    return bool(slower <= terms["latency_factor"] and enough)


def _point(pairs: list[dict[str, Any]], key: str) -> float | None:
    """What one pair says, without an interval."""
    told = [(one["ollama"][key], one["vllm"][key]) for one in pairs if one["ollama"][key] and one["vllm"][key]]
    return float(told[0][1] / told[0][0]) if told else None


def _kinds(figures: dict[str, Any]) -> str:
    kinds = {name: count for name, count in figures["outcomes"].items() if name != "complete"}
    listed = ", ".join(f"{count} {name}" for name, count in sorted(kinds.items()))
    first = figures["errors"][0]["error"] if figures["errors"] else ""
    return f"{sum(kinds.values())} ({listed}{': ' + first if first else ''})"
