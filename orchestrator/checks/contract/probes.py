"""The probes: data/contract.yaml, or a file of the user's with the same shape (CONTRACT_PROBES)."""

from __future__ import annotations

import base64
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from orchestrator.checks.contract.readers import READERS
from orchestrator.errors import UsageError

Kind = Literal["generate", "embedding"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Step(_Strict):
    """One request; `raw` is sent as it stands in place of `body`."""

    path: str = Field(pattern="^/")
    method: Literal["GET", "POST", "HEAD", "PUT", "DELETE"] = "POST"
    body: dict[str, Any] | None = None
    raw: str | None = None


class Tolerance(_Strict):
    """Why a difference is none; only between these values where they are given."""

    reason: str = Field(min_length=1)
    was: Any = Field(None, alias="from")
    now: Any = Field(None, alias="to")


class Probe(_Strict):
    """One thing that callers rely on, and how it is read off the answers."""

    name: str = Field(min_length=1)
    group: str = Field(min_length=1)
    steps: tuple[Step, ...] = Field(min_length=1)
    read: str
    args: dict[str, Any] = Field(default_factory=dict, alias="with")
    paths: tuple[str, ...]
    named: dict[str, str] = Field(default_factory=dict)
    tolerate: dict[str, Tolerance] = Field(default_factory=dict)
    kind: Kind | None = None        # None: any route that generates
    thinks: bool = False            # leave thinking as it is by default
    new_only: bool = False          # the old side has nothing of the kind

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        """One step may stand in the probe itself; the paths are those that are asked unless said."""
        if not isinstance(data, dict):
            return data
        own = {key: data[key] for key in ("path", "method", "body", "raw") if key in data}
        rest = {key: value for key, value in data.items() if key not in own}
        if own:
            if "steps" in rest:
                raise ValueError("path, method, body and raw stand in steps where there are steps")
            rest["steps"] = [own]
        if "paths" not in rest:
            steps = rest.get("steps") if isinstance(rest.get("steps"), list | tuple) else ()
            rest["paths"] = list(dict.fromkeys(step["path"] for step in steps or ()
                                               if isinstance(step, dict) and isinstance(step.get("path"), str)))
        return rest

    @model_validator(mode="after")
    def _known(self) -> Probe:
        if self.read not in READERS:
            raise ValueError(f"read: no reader is called {self.read!r}; there are {', '.join(sorted(READERS))}")
        return self

    def to_json(self) -> dict[str, Any]:
        """The part that judging needs."""
        kept = self.model_dump(by_alias=True, exclude={"steps"})
        return {**kept, "paths": list(self.paths)}


def load_probes(path: str | Path | None = None) -> tuple[Probe, ...]:
    """Read a file of probes: the given one, else that of CONTRACT_PROBES, else the built-in set.

    UsageError names every mistake with its place.
    """
    chosen = path or os.environ.get("CONTRACT_PROBES")
    if chosen is None:
        return parse_probes(files("orchestrator").joinpath("data/contract.yaml").read_text("utf-8"), "contract.yaml")
    try:
        text = Path(chosen).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        raise UsageError(f"Cannot read the file of probes {chosen}", evidence=str(failure)) from failure
    return parse_probes(text, str(chosen))


def parse_probes(text: str, name: str) -> tuple[Probe, ...]:
    hint = "A file of probes is a YAML list of {name, group, path, body, read}; see orchestrator/data/contract.yaml."
    try:
        probes = TypeAdapter(tuple[Probe, ...]).validate_python(yaml.safe_load(text))
    except yaml.YAMLError as failure:
        raise UsageError(f"{name} is not YAML", evidence=str(failure), hint=hint) from failure
    except ValidationError as failure:
        problems = [f"{_place(error['loc'])}: {error['msg']}" for error in failure.errors()]
        raise UsageError(f"{name} has mistakes", evidence="\n".join(problems), hint=hint) from failure
    names = [probe.name for probe in probes]
    twice = sorted({one for one in names if names.count(one) > 1})
    if twice or not probes:
        problem = f"names used twice: {', '.join(twice)}" if twice else "no probes in it"
        raise UsageError(f"{name} has mistakes", evidence=problem, hint=hint)
    return probes


def fill(value: Any, words: Mapping[str, str]) -> Any:
    """Return a body with $model and the like replaced, in keys' values at any depth."""
    if isinstance(value, str):
        for name, text in words.items():
            value = value.replace(name, text)
        return value
    if isinstance(value, dict):
        return {key: fill(one, words) for key, one in value.items()}
    return [fill(one, words) for one in value] if isinstance(value, list) else value


def words_for(model: str) -> dict[str, str]:
    return {"$model": model, "$MODEL": model.upper(), "$pixel": picture()}


def picture(side: int = 64) -> str:
    """Return a grey PNG of `side` by `side` points in base64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + b"\x80" * side) * side
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    made = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return base64.b64encode(made).decode()


def quiet(step: Step, body: dict[str, Any]) -> dict[str, Any]:
    """Return a body that asks a model that thinks not to: what is probed is not how long it thinks."""
    if step.path == "/v1/chat/completions":
        return {**body, "reasoning_effort": "none"}
    if step.path == "/invocations":
        return {**body, "chat_template_kwargs": {"enable_thinking": False, "thinking": False}}
    if step.path in ("/api/chat", "/api/generate") and ("messages" in body or "prompt" in body):
        return {**body, "think": False}
    return body


def _place(location: Sequence[int | str]) -> str:
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return place.removeprefix(".") or "file"
