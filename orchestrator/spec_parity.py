"""The section `parity` of the stack file: the smoke parity of `up`."""

from __future__ import annotations

from pydantic import Field

from orchestrator.spec_types import Section


class Parity(Section):
    """The smoke parity of `up`."""

    prompts: str | None = Field(None, description="a file of prompts instead of the built-in set")
    similarity: float | None = Field(None, ge=0, le=1, description="least text similarity; none: reported")
    max_tokens: int = Field(48, ge=1)
    cosine: float = Field(0.99, ge=0, le=1, description="least cosine between both sides' embeddings")
