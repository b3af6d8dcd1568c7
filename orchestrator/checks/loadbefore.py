"""Judging vLLM against what Ollama did before the take-over, where Ollama cannot be up beside it. Pure.

Old was measured first and new later, on another day perhaps: order and time are confounded, no interval knows that.
So only a difference beyond twice what is allowed or demanded is a verdict, and the summary says it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

_PLAIN = 2.0
Reason = dict[str, Any]


def against_baseline(evidence: dict[str, Any], why: str) -> Iterator[Reason]:
    """Reasons for latency and output rate at the level that judges; `why`: why Ollama itself did not answer."""
    users, terms = evidence["judged_at"], evidence["thresholds"]
    new = next(level["vllm"] for level in evidence["levels"] if level["users"] == users)
    old = next((one for one in evidence["baseline"]["levels"] if one["users"] == users), None)
    p95 = new["e2e_ms"]["p95"]["value"]
    if old is None or not old["p95_ms"] or not old["tokens_per_s"] or not p95 or not new["output_tokens_per_s"]:
        text = f"{why}; and the baseline says too little of {users} users"
        yield {"what": "baseline", "result": "inconclusive", "why": text}
        return
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(evidence["baseline"]["at"]))
    note = f"Ollama's figures are those of {when}, before the take-over: order and time are confounded"
    latency, rate = p95 / old["p95_ms"], new["output_tokens_per_s"] / old["tokens_per_s"]
    evidence["comparison"] = {"users": users, "pairs": 0, "latency": None, "output_rate": None, "confounded": True,
                              "latency_p95_ratio": latency, "output_rate_ratio": rate}  # fmt: skip
    slower = latency / terms["latency_factor"]
    yield _reason("latency", slower, f"p95 {latency:.2f} times Ollama's (allowed {terms['latency_factor']:g})", note)
    if terms["throughput_factor"]:
        less = terms["throughput_factor"] / rate
        said = f"output {rate:.2f} times Ollama's (demanded {terms['throughput_factor']:g})"
        yield _reason("output rate", less, said, note)


def _reason(what: str, beyond: float, said: str, note: str) -> Reason:
    """`beyond`: how far the limit is passed, 1 is the limit itself."""
    if 1 / _PLAIN < beyond < _PLAIN:
        return {"what": what, "result": "inconclusive", "why": f"{said} is not plain enough: {note}"}
    return {"what": what, "result": "fail" if beyond >= _PLAIN else "pass", "why": f"{said}; {note}"}
