"""The section `load` of the stack file: the load test of `up` and of `migrate load`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from orchestrator.spec_types import Seconds, Section

Users = Annotated[int, Field(ge=1, le=10_000)]
Tokens = Annotated[int, Field(ge=1, le=1_000_000)]


class Slo(Section):
    """Objectives of one request; goodput counts those that meet all of them. Durations such as 500ms."""

    ttft: Seconds | None = Field(None, description="time to the first token")
    tpot: Seconds | None = Field(None, description="time per output token after the first")
    e2e: Seconds | None = Field(None, description="time to the last token")
    itl_max: Seconds | None = Field(None, description="longest gap between two tokens")

    def in_ms(self) -> dict[str, float]:
        """Return the objectives that are set, in ms."""
        return {name: value * 1000 for name, value in self.model_dump().items() if value is not None}


class Quantiles(Section):
    """Lengths in tokens at quantiles; between them straight lines."""

    p50: Tokens | None = None
    p95: Tokens | None = None
    p99: Tokens | None = None
    max: Tokens | None = None

    @model_validator(mode="after")
    def _rising(self) -> Quantiles:
        told = [value for value in (self.p50, self.p95, self.p99, self.max) if value is not None]
        if not told:
            raise ValueError("should name at least one of p50, p95, p99, max")
        if told != sorted(told):
            raise ValueError("should not fall: a higher quantile is at least as long as a lower one")
        return self


class LengthsOf(Section):
    """How long prompts and answers are, each drawn for itself; or pairs of [prompt, answer], drawn as they are."""

    prompt: Quantiles | None = None
    output: Quantiles | None = None
    pairs: tuple[tuple[Tokens, Tokens], ...] = ()

    @model_validator(mode="after")
    def _one_kind(self) -> LengthsOf:
        if bool(self.pairs) == bool(self.prompt or self.output):
            raise ValueError("should have either pairs, or prompt and output")
        return self


class Load(Section):
    """The load test of `up`, and what `migrate load` does unless its flags say otherwise."""

    users: tuple[Users, ...] = Field((1, 5, 10), min_length=1)
    requests_per_user: int = Field(4, ge=1)
    max_tokens: int = Field(64, ge=1)
    timeout: Seconds = 120.0
    latency_factor: float = Field(1.5, gt=0, description="vLLM's p95 may be this much over Ollama's")
    throughput_factor: float = Field(1.0, ge=0, description="least output tokens/s of vLLM over Ollama's")
    error_rate: float = Field(0.0, ge=0, le=1)
    slo_share: float = Field(0.95, gt=0, le=1, description="least share of requests that meet all of slo")
    pairs: int = Field(8, ge=3, le=8, description="most pairs of runs, old and new; fewer where the first are clear")
    baseline: bool = Field(default=True, description="measure the untouched Ollama before the take-over; off: do not")
    live_cost: bool = Field(
        default=True, description="on a shared GPU: measure what vLLM's load does to Ollama's users; off: do not"
    )
    budget: Seconds = Field(1800.0, description="after so long the load test of up begins no further runs")
    slo: Slo | None = Field(None, description="objectives for goodput; none: goodput is not counted")
    lengths: Literal["evidence"] | LengthsOf | None = Field(
        None, description="tokens of prompts and answers: as the log showed (evidence), or as said; none: short prompts"
    )
    unique_prompts: bool = Field(
        default=True, description="each prompt begins differently: no prefix cache answers; false: hits are shown"
    )
    live_factor: float = Field(
        2.0, ge=0, description="migrate load stops when live users wait this much longer than before; 0: not watched"
    )
