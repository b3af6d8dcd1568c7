"""Published memory figures of vLLM and Ollama (tests/cases/memory): what they printed against what we compute."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from decide_cases import cases, read

from orchestrator.decide.catalog import Numbers
from orchestrator.decide.ggufshape import from_gguf
from orchestrator.decide.kv import Cache, element_bytes, sequence_bytes, token_bytes
from orchestrator.decide.mapping import gguf_numbers
from orchestrator.decide.shapes import Shape, from_config
from orchestrator.decide.vram import GIB, GpuBudget, ollama_footprint, starts
from orchestrator.decide.weights import parameters, size
from orchestrator.facts import Model


def near(printed: float) -> Any:
    """Within 2 %, or what two printed digits cannot tell."""
    return pytest.approx(printed, rel=0.02, abs=0.006)


def kept(case: dict[str, Any]) -> tuple[Shape, Cache]:
    shape = from_config(case["config"]) if "config" in case else from_gguf(case["gguf"])
    return shape, Cache(
        element=element_bytes(case.get("kv_dtype", "auto")),
        tensor_parallel=case.get("tensor_parallel", 1),
        batched_tokens=case.get("batched_tokens", 2048),
    )


@pytest.mark.parametrize("path", cases("memory"), ids=lambda path: path.stem)
def test_published_figures(path: Path) -> None:
    case = read(path)
    expect = case["expect"]
    assert case["source"].startswith("https://")
    if "start" in case:
        start = case["start"]
        total, free = round(start["total_gib"] * GIB), round(start["free_gib"] * GIB)
        requested, admitted = starts(total, free, start["utilization"])
        assert requested / GIB == near(expect["requested_gib"])
        assert admitted is expect["admitted"]
        return
    shape, cache = kept(case)
    one = sequence_bytes(shape, case["tokens"], cache)
    if "sequence_gib" in expect:
        assert one / GIB == near(expect["sequence_gib"])
    if "longest" in expect:
        assert expect["available_gib"] * GIB / token_bytes(shape, cache) == pytest.approx(expect["longest"], rel=0.02)
    if "cache_tokens" in expect:
        assert expect["cache_gib"] * GIB / token_bytes(shape, cache) == pytest.approx(expect["cache_tokens"], rel=0.02)
    if "admitted" in expect:
        assert (one <= expect["available_gib"] * GIB) is expect["admitted"]
    if "kv_gib" in expect:
        assert token_bytes(shape) * case["tokens"] / GIB == near(expect["kv_gib"])
    if "weights_gib" in expect:
        range_of = size(parameters(case["config"]), case["weights"], cache.tensor_parallel)
        assert range_of.low * 0.98 <= expect["weights_gib"] * GIB <= range_of.high * 1.02
        assert math.sqrt(range_of.low * range_of.high) / GIB == pytest.approx(expect["weights_gib"], rel=0.02)
    if "params_b" in expect:
        assert parameters(case["config"]).total / 1e9 == pytest.approx(expect["params_b"], rel=0.005)
    if "spills" in expect:
        assert spills(case) is expect["spills"]


def spills(case: dict[str, Any]) -> bool:
    model = Model("m", size=round(case["file_gib"] * GIB), architecture=case["gguf"])
    numbers: Numbers = gguf_numbers(case["gguf"])
    footprint = ollama_footprint(model, numbers, case["tokens"])
    return bool(GpuBudget("0", round(case["gpu_gib"] * GIB), ollama=footprint).problem)
