"""Screens, MIG instances, ranges, windows: what the budget respects besides plain sizes."""

from __future__ import annotations

import json
from dataclasses import replace

from decide_cases import ROOT, read

from bench.vram import predicted, readings
from orchestrator.decide.budget import proof
from orchestrator.decide.catalog import load
from orchestrator.decide.shapes import from_config
from orchestrator.decide.vram import DISPLAY, GIB, MIB, SPARE, Ask, GpuBudget
from orchestrator.facts import Facts, Gpu, OllamaFacts
from orchestrator.spec import parse_spec

ASK = Ask("llama", load().named("llama3.1")[0].numbers)


def test_a_screen_needs_more_free() -> None:
    tight = GpuBudget("0", 10 * GIB, ollama=10 * GIB - SPARE - 100 * MIB)
    assert not tight.problem
    assert "screen" in replace(tight, display=True).problem
    assert not replace(tight, ollama=tight.ollama - DISPLAY, display=True).problem


def test_an_engine_is_not_split_over_mig_instances() -> None:
    gpus = tuple(Gpu(str(at), f"MIG-{at}", "x", 40 * GIB, 40 * GIB, 8.0, mig=True) for at in range(2))
    engine = {"repo": "meta-llama/Llama-3.1-8B-Instruct", "gpus": ["0", "1"], "kv_cache": "4GiB"}
    spec = parse_spec(json.dumps({"name": "x", "engines": {"e": engine}, "routes": {"llama3.1:8b": {"engine": "e"}}}))
    found = proof(spec, Facts(OllamaFacts("", ""), gpus), load())
    assert "MIG" in found.problems[0]
    whole = tuple(replace(gpu, mig=False) for gpu in gpus)
    assert not any("MIG" in one for one in proof(spec, Facts(OllamaFacts("", ""), whole), load()).problems)
    report = found.report()
    assert report.count("k KV cache 4.0 GiB") == 2
    assert report.count("e: weights 7.") == 2, "half of the model on each"


def test_a_known_shape_counts_its_windows() -> None:
    shape = from_config(read(ROOT / "kv" / "gemma3-sliding.yaml")["config"])
    long = replace(ASK, max_model_len=131072, shape=shape, batched_tokens=2048)
    assert long.one_sequence() < 131072 * long.kv_token() / 3
    assert ASK.weights_range().low < ASK.weights_range().high == ASK.weights()


def test_the_bench_reads_vllms_log_and_predicts_a_range() -> None:
    log = "x Model loading took 14.99 GiB memory and 3 s\nGPU KV cache size: 8,192 tokens\nnothing"
    assert readings(log) == {"weights": 14.99, "tokens": 8192.0}
    case = read(ROOT / "memory" / "params-qwen3-8b.yaml")["config"]
    ranges = predicted(case, 80 * GIB, 4096)
    assert all(low <= high for low, high in ranges.values())
    assert 15 < ranges["weights"][0] < 15.5
