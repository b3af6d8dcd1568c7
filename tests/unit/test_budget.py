"""Memory of the stack's own engines is taken off what others hold, by how they run now and not by the spec."""

from __future__ import annotations

import json

from orchestrator.decide.budget import Running, proof
from orchestrator.decide.catalog import load
from orchestrator.decide.vram import GIB, context_of
from orchestrator.facts import Facts, Gpu, OllamaFacts
from orchestrator.spec import Spec, parse_spec

TOTAL = 24 * GIB


def spec(*gpus: str, utilization: float) -> Spec:
    engine = {
        "repo": "meta-llama/Llama-3.1-8B-Instruct", "gpus": gpus, "max_model_len": 4096, "kv_cache": "1GiB",
        "gpu_memory_utilization": utilization,
    }  # fmt: skip
    data = {"name": "one", "engines": {"e": engine}, "routes": {"llama3.1:8b": {"engine": "e"}}}
    return parse_spec(json.dumps(data))


def others(wanted: Spec, running: list[Running], *used: int) -> list[int]:
    gpus = tuple(Gpu(str(at), f"GPU-{at}", "x", TOTAL, TOTAL - one, 8.9) for at, one in enumerate(used))
    return [budget.others for budget in proof(wanted, Facts(OllamaFacts("", ""), gpus), load(), running).budgets]


def held(utilization: float, count: int = 1) -> int:
    return int(TOTAL * utilization) + context_of(count)


def test_a_stranger_beside_the_own_engine_stays_counted() -> None:
    assert others(spec("0", utilization=0.5), [Running(("0",), 0.5)], held(0.5) + 3 * GIB) == [3 * GIB]


def test_what_counts_is_how_it_runs_not_what_the_spec_says_now() -> None:
    assert others(spec("0", utilization=0.25), [Running(("0",), 0.75)], held(0.75)) == [0]


def test_an_engine_that_is_to_move_leaves_its_old_gpu() -> None:
    moved = spec("1", utilization=0.5)
    assert others(moved, [Running(("GPU-0",), 0.5)], held(0.5), 2 * GIB) == [2 * GIB]
    assert others(spec("0", "1", utilization=0.5), [Running(("0", "1"), 0.5)], held(0.5, 2), held(0.5, 2)) == [0, 0]


def test_a_gpu_that_is_gone_is_no_obstacle() -> None:
    assert others(spec("0", utilization=0.5), [Running(("7",), 0.5)], GIB) == [GIB]
