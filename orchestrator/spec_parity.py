"""The section `parity` of the stack file: what both sides are asked, and what a difference may be."""

from __future__ import annotations

from pydantic import Field

from orchestrator.spec_types import Seconds, Section


class Parity(Section):
    """The smoke parity of `up`, and the answers of the suites."""

    prompts: str | None = Field(None, description="a file of smoke prompts instead of the built-in ones")
    similarity: float | None = Field(None, ge=0, le=1, description="least text similarity; none: reported")
    max_tokens: int = Field(48, ge=1, description="of an answer, where a prompt says nothing else")
    cosine: float = Field(0.99, ge=0, le=1, description="least cosine between both sides' embeddings")
    suites: list[str] = Field(
        ["builtin"], description="builtin, files of your own (YAML, JSONL), folders of captured traffic"
    )
    groups: list[str] | None = Field(None, description="only these groups of the suites are asked; none: all")
    uses: tuple[str, ...] | None = Field(
        None, description="groups of the contract that callers need: others are no failure; none: by the access log"
    )
    repeats: int = Field(2, ge=1, le=10, description="how often each side is asked the same: its own noise")
    samples: int = Field(6, ge=2, le=12, description="answers per prompt without sampling parameters")
    parallel: int = Field(2, ge=1, le=64, description="requests at once on each side")
    timeout: Seconds = Field(120.0, gt=0, description="of one answer")
    alpha: float = Field(0.05, gt=0, le=0.2, description="chance of a false red")
    loss: float = Field(0.05, ge=0, le=1, description="share of a group's prompts that may be lost, net")
    alike: float = Field(
        0.2, ge=0, le=1, description="least share of answers that begin alike; 0: another model is meant"
    )
    vary: float = Field(0.1, ge=0, le=1, description="how far apart the variety without sampling parameters may lie")
