"""Ollama's options and what they become for vLLM."""

from __future__ import annotations

import math
import re
from typing import Any

from orchestrator.adapter.refusals import Refusal
from orchestrator.adapter.stops import ENGINE_STOPS
from orchestrator.adapter.wire import JSON

# Defaults of Ollama's native API and of its /v1, which overrides the Modelfile for these two.
# Source: ollama api/types.go DefaultOptions, openai/openai.go FromChatRequest.
NATIVE: JSON = {"temperature": 0.8, "top_p": 0.9, "top_k": 40, "min_p": 0.0}
V1_FORCED: JSON = {"temperature": 1.0, "top_p": 1.0}

_KINDS = {
    "float32": ("temperature", "top_p", "min_p", "typical_p", "repeat_penalty", "presence_penalty",
                "frequency_penalty"),
    "integer": ("num_keep", "seed", "num_predict", "top_k", "repeat_last_n", "num_ctx", "num_batch",
                "num_gpu", "main_gpu", "num_thread", "draft_num_predict"),
    "boolean": ("use_mmap",),
    "array": ("stop",),
}  # fmt: skip
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names}
_DURATION = re.compile(r"(\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_DURATIONS = re.compile(f"[-+]?({_DURATION.pattern})+")


def checked(options: Any) -> JSON:
    """Return the options that Ollama knows; raises Refusal for a wrong type, ignores unknown names."""
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise Refusal(400, "json: cannot unmarshal options into Go struct field .options", early=True)
    known = {name: value for name, value in options.items() if name in _KIND_OF and value is not None}
    for name, value in known.items():
        _check(name, value)
    return known


def _check(name: str, value: Any) -> None:
    kind = _KIND_OF[name]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        "float32": number,
        "integer": number,
        "boolean": isinstance(value, bool),
        "array": isinstance(value, list),
    }[kind]
    if not fits:
        raise Refusal(500, f'option "{name}" must be of type {kind}')
    if kind == "array" and not all(isinstance(item, str) for item in value):
        raise Refusal(500, f'option "{name}" must be of an array of strings')


def native(parameters: JSON, requested: Any) -> JSON:
    """Merge in Ollama's order: its defaults, the Modelfile, the request."""
    return {**NATIVE, **checked(parameters), **checked(requested)}


def v1(parameters: JSON, requested: JSON) -> JSON:
    """Merge as Ollama's /v1 does: temperature and top_p of the Modelfile are overridden."""
    return {**NATIVE, **checked(parameters), **V1_FORCED, **requested}


def responses(parameters: JSON, requested: JSON) -> JSON:
    """Merge as Ollama's /v1/responses does: it overrides the Modelfile's temperature alone."""
    return {**NATIVE, **checked(parameters), "temperature": V1_FORCED["temperature"], **requested}


def sampling(options: JSON) -> JSON:
    """Return vLLM's sampling fields; values outside vLLM's range go to its nearest end.

    llama.cpp takes any number: a temperature at or below 0 is greedy, a top_k at or below 0 means off.
    `typical_p`, `num_ctx` and everything about the runner have no counterpart.
    """
    fields: JSON = {
        "temperature": _clamp(options["temperature"], 0.0, 2.0),
        "top_p": _clamp(options["top_p"], 1e-6, 1.0),
        "top_k": max(_integer(options["top_k"]), 0),
        "min_p": _clamp(options["min_p"], 0.0, 1.0),
        "repetition_penalty": _positive(options.get("repeat_penalty", 1.0)),
        "presence_penalty": _clamp(options.get("presence_penalty", 0.0), -2.0, 2.0),
        "frequency_penalty": _clamp(options.get("frequency_penalty", 0.0), -2.0, 2.0),
    }
    seed = _integer(options.get("seed", -1))
    if seed != -1:
        fields["seed"] = seed
    limit = _integer(options.get("num_predict", -1))
    if limit > 0:  # 0, -1 and -2 are all unlimited
        fields["max_tokens"] = limit
    return fields


def split_stops(options: JSON) -> tuple[list[str], tuple[str, ...]]:
    """Return the stop words for the engine and those that are left for our own scanner."""
    stops = [stop for stop in dict.fromkeys(options.get("stop") or []) if stop]
    return stops[:ENGINE_STOPS], tuple(stops[ENGINE_STOPS:])


def _clamp(value: float, low: float, high: float) -> float:
    return low if math.isnan(value) else min(max(float(value), low), high)


def _integer(value: float) -> int:
    return int(_clamp(value, -(2.0**53), 2.0**53))


def _positive(value: float) -> float:
    return _clamp(value, 0.0, 1e6) or 1.0


def keep_alive(value: Any) -> float | None:
    """Return seconds (negative: forever), None when not given; raises Refusal for a bad duration."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    text = str(value)
    if not isinstance(value, str) or (text.lstrip("+-") != "0" and not re.fullmatch(_DURATIONS, text)):
        lacking = "missing unit in" if re.fullmatch(r"[-+]?[\d.]*\d[\d.]*", text) else "invalid"
        raise Refusal(400, f'time: {lacking} duration "{text}"', early=True)
    units = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
    total = sum(float(part[0]) * units[part[2]] for part in _DURATION.findall(text))
    return -total if text.startswith("-") else total
