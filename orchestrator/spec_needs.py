"""The section `needs:` of the stack file: what no log can tell. Nothing here has to be said."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orchestrator.spec_types import Seconds, Section

Count = Annotated[int, Field(ge=0)]


class Symptoms(Section):
    """The six signs of a team that has outgrown Ollama (article S3). Leave out what you do not know."""

    peak_hour_timeouts: bool | None = Field(None, description="timeouts at busy hours, none at night or weekends")
    slow_under_load: bool | None = Field(None, description="prompts under 5 s alone take 30 s or more under load")
    coordination: bool | None = Field(None, description="people agree among themselves who may use it when")
    several_ollamas: bool | None = Field(None, description="somebody proposed more Ollamas behind a load balancer")
    new_stakeholders: bool | None = Field(None, description="people who are no developers ask for access")
    parallel_streams: bool | None = Field(None, description="several clients must get their streams at once")


class Needs(Section):
    """What the service is for and what it must hold; every key is optional."""

    symptoms: Symptoms = Symptoms()
    purpose: Literal["development", "internal", "production", "edge"] | None = Field(
        None, description="one person's or a demo; a team's own tool; an API that products use; a small device"
    )
    users: Count | None = Field(None, description="people or programs that ask at the same moment, at most")
    requests_per_minute: float | None = Field(None, ge=0, allow_inf_nan=False, description="in the busiest minute")
    sla: bool | None = Field(None, description="a promised availability or latency")
    external_users: bool | None = Field(None, description="people outside the organisation use it")
    loras: Count | None = Field(None, description="LoRA adapters to serve")
    ci_parallel: bool | Count | None = Field(None, description="CI or automation calls at once; a number or true")
    ttft_ms: float | None = Field(None, gt=0, allow_inf_nan=False, description="time to first token that is needed")
    client_timeout: Seconds | None = Field(None, description="how long clients wait for an answer, such as 2m")
    on_premises: bool | None = Field(None, description="data must not leave the premises")
    operating_capacity: bool | None = Field(None, description="somebody can run and watch a vLLM")
    openai_drop_in: bool | None = Field(None, description="clients need the whole OpenAI API")
    multi_cloud: bool | None = Field(None, description="the same service in several places")
    simplest_setup: bool | None = Field(None, description="the least work matters more than throughput")
