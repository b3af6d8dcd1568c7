"""The section `load` of the stack file: the load test of `up`."""

from __future__ import annotations

from pydantic import Field

from orchestrator.spec_types import Seconds, Section


class Load(Section):
    """The load test of `up`."""

    users: tuple[int, ...] = (1, 5, 10)
    requests_per_user: int = Field(4, ge=1)
    max_tokens: int = Field(64, ge=1)
    timeout: Seconds = 120.0
    latency_factor: float = Field(1.5, gt=0, description="vLLM's p95 may be this much over Ollama's")
    throughput_factor: float = Field(1.0, ge=0, description="least output tokens/s of vLLM over Ollama's")
    error_rate: float = Field(0.0, ge=0, le=1)
