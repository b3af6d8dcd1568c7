"""Situations of `cases/verdict/` in short form; facts and needs come out. See cases/README.md."""

from __future__ import annotations

import dataclasses
from typing import Any

from decide_cases import gpu, model

from orchestrator.decide.catalog import load
from orchestrator.facts import Facts, Gpu, Host, Loaded, Model, OllamaContainer, OllamaFacts, Spread, Traffic
from orchestrator.spec_needs import Needs

_OWN = {"at_once", "usual", "half_within", "most_within", "longest_prompt"}


def case_facts(case: dict[str, Any]) -> Facts:
    container = OllamaContainer(
        "ollama", "", "ollama/ollama", "127.0.0.1", 11434, env={k: str(v) for k, v in case.get("env", {}).items()}
    )
    ollama = OllamaFacts(
        case.get("url", "http://127.0.0.1:11434"),
        str(case.get("ollama_version", "0.32.6")),
        models=tuple(map(_model, case.get("models", ()))),
        loaded=tuple(Loaded(**item) for item in case.get("loaded", ())),
        container=container if case.get("container", True) else None,
    )
    gpus = tuple(_gpu(at, text) for at, text in enumerate(case.get("gpus", ["24GiB cc8.9"])))
    host = Host(**{"system": "Linux", "machine": "x86_64", **case.get("host", {})})
    return Facts(ollama, gpus, case.get("gpu_problem", ""), host=host, traffic=_traffic(case.get("traffic", {})))


def case_needs(case: dict[str, Any]) -> Needs:
    return Needs.model_validate(case.get("needs", {}))


def _model(data: str | dict[str, Any]) -> Model:
    """`llama3.1:8b` is the library's model in its default quantisation."""
    if isinstance(data, dict):
        return model(data)
    found = load().find(data)
    params = found.entry.numbers.params_b if found else None
    return Model(data, size=round((params or 0) * 0.61e9), parameter_size=f"{params}B" if params else "")


def _gpu(index: int, text: str) -> Gpu:
    """`24GiB cc8.9 used2GiB`, or `amd 24GiB`, `apple 64GiB`."""
    for vendor in ("amd", "apple"):
        if text.startswith(vendor):
            found = gpu(index, f"{text} cc0.0")
            return dataclasses.replace(found, vendor=vendor, name=f"{vendor} test")
    return gpu(index, text)


def _traffic(data: dict[str, Any]) -> Traffic:
    """Spreads from single numbers; what is not said is as in an empty log."""
    rest = {key: value for key, value in data.items() if key not in _OWN}
    count = rest.get("requests", 0)
    usual = data.get("usual")
    spreads: dict[str, Spread] = {}
    if "at_once" in data:
        spreads["concurrency"] = Spread(count, p95=usual, peak=data["at_once"])
    if "most_within" in data:
        spreads["latency"] = Spread(count, p50=data.get("half_within"), p95=data["most_within"])
    if "longest_prompt" in data:
        spreads["prompt_tokens"] = Spread(count, peak=data["longest_prompt"])
    return Traffic(**{"source": "log" if data else "none", "lines": count, **rest, **spreads})
