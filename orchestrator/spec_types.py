"""Types of the stack file: sizes, durations, percentages, and a section that refuses unknown keys."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_SIZES = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def _bytes(value: Any) -> Any:
    if isinstance(value, str):
        found = re.fullmatch(rf"{_NUMBER}\s*([KMG]i?B|B?)", value.strip(), re.IGNORECASE)
        if not found:
            raise ValueError("should be a size such as 4GiB or 500MiB")
        return int(float(found[1]) * _SIZES[found[2].upper()])
    return value


def seconds(value: Any) -> Any:
    """Return a duration such as 90s or 5m in seconds, anything that is no text as it is; raises ValueError."""
    if isinstance(value, str):
        found = re.fullmatch(rf"{_NUMBER}\s*(ms|s|m|h)", value.strip())
        if not found:
            raise ValueError("should be a duration such as 90s or 5m")
        return float(found[1]) * _UNITS[found[2]]
    return value


# What may be written, for the JSON schema; the validators themselves are stricter only in their messages.
_Size = Annotated[str, Field(pattern=rf"^\s*{_NUMBER}\s*([KMGkmg][iI]?[Bb]|[Bb]?)\s*$")]
_Duration = Annotated[str, Field(pattern=rf"^\s*{_NUMBER}\s*(ms|s|m|h)\s*$")]
_SizeInput = Annotated[int, Field(ge=0)] | _Size
_DurationInput = Annotated[float, Field(ge=0)] | _Duration

Bytes = Annotated[int, BeforeValidator(_bytes, json_schema_input_type=_SizeInput), Field(ge=0)]
Seconds = Annotated[
    float, BeforeValidator(seconds, json_schema_input_type=_DurationInput), Field(ge=0, allow_inf_nan=False)
]
Percent = Annotated[float, Field(ge=0, le=100)]
Port = Annotated[int, Field(ge=1, le=65535)]
STACK_NAME = r"^[a-z0-9][a-z0-9-]{0,38}$"
Name = Annotated[str, Field(pattern=STACK_NAME)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Shadow(Section):
    """A share of what Ollama answers that vLLM is asked as well, to compare; prompts and answers are kept on disk."""

    percent: float = Field(gt=0, le=100, description="share of the requests that Ollama answers")
    keep: int = Field(200, ge=1, le=10_000, description="the newest comparisons that are kept")
