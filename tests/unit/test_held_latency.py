"""What a request waited at the gateway is no engine's latency."""

from __future__ import annotations

from orchestrator.decide.canary import side_of


def record(held: float | None, ttft: float, total: float) -> dict:
    return {"side": "vllm", "outcome": "complete", "status": 200, "ttft_ms": ttft, "total_ms": total, "held_ms": held}


def test_time_on_hold_is_taken_off() -> None:
    found = side_of([record(5000, 5100, 5400), record(None, 100, 400), record(0, 100, 400)], "vllm")
    assert (found.ttft_p50, found.ttft_p95, found.e2e_p50) == (100, 100, 400)
