"""The parity prompts: the built-in set, or a file of the user's with the same shape."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from orchestrator.errors import UsageError

# What the check itself decides.
_OURS = frozenset({"model", "messages", "stream", "stream_options"})


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Message(_Strict):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]]


class Expect(_Strict):
    finish_reason: Literal["stop", "length", "tool_calls"] | None = None


class Prompt(_Strict):
    """One prompt; `params` are merged into the request."""

    id: str = Field(min_length=1)
    messages: tuple[Message, ...] = Field(min_length=1)
    params: dict[str, Any] = Field(default_factory=dict)
    expect: Expect = Expect()

    @field_validator("params")
    @classmethod
    def _free(cls, params: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(_OURS & params.keys())
        if taken:
            raise ValueError(f"{', '.join(taken)}: set by the check itself")
        return params

    def body(self, model: str, max_tokens: int, *, stream: bool) -> dict[str, Any]:
        """The request, deterministic as far as the engines can be."""
        body: dict[str, Any] = {
            "model": model,
            "messages": [message.model_dump() for message in self.messages],
            "max_tokens": max_tokens,
            "temperature": 0,
            "seed": 1,
            **self.params,
            "stream": stream,
        }
        return {**body, "stream_options": {"include_usage": True}} if stream else body


def load_prompts(path: str | Path | None = None) -> tuple[Prompt, ...]:
    """Read a prompts file: the given one, else that of PARITY_PROMPTS, else the built-in set.

    UsageError names every mistake with its place.
    """
    chosen = path or os.environ.get("PARITY_PROMPTS")
    if chosen is None:
        return parse_prompts(files("orchestrator").joinpath("data/prompts.yaml").read_text("utf-8"), "prompts.yaml")
    try:
        text = Path(chosen).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        raise UsageError(f"Cannot read the prompts file {chosen}", evidence=str(failure)) from failure
    return parse_prompts(text, str(chosen))


def parse_prompts(text: str, name: str) -> tuple[Prompt, ...]:
    hint = "A prompts file is a YAML list of {id, messages, params}; see the built-in orchestrator/data/prompts.yaml."
    try:
        prompts = TypeAdapter(tuple[Prompt, ...]).validate_python(yaml.safe_load(text))
    except yaml.YAMLError as failure:
        raise UsageError(f"{name} is not YAML", evidence=str(failure), hint=hint) from failure
    except ValidationError as failure:
        problems = [f"{_place(error['loc'])}: {error['msg']}" for error in failure.errors()]
        raise UsageError(f"{name} has mistakes", evidence="\n".join(problems), hint=hint) from failure
    ids = [prompt.id for prompt in prompts]
    twice = sorted({one for one in ids if ids.count(one) > 1})
    if twice or not prompts:
        problem = f"ids used twice: {', '.join(twice)}" if twice else "no prompts in it"
        raise UsageError(f"{name} has mistakes", evidence=problem, hint=hint)
    return prompts


def _place(location: tuple[int | str, ...]) -> str:
    """`(1, "messages", 0, "role")` becomes `[1].messages[0].role`."""
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return place.removeprefix(".") or "file"
