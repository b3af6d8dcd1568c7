"""Whole situations in short form: `llama3.1:8b` is an installed model, `24GiB cc8.9` a GPU; facts come out."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from decide_cases import facts as plain_facts

from orchestrator.decide import evidence
from orchestrator.decide.catalog import Catalog, load
from orchestrator.decide.tags import parse
from orchestrator.facts import AdapterFacts, Facts, Host, HubFact, Spread, Traffic


def installed(text: str, catalog: Catalog) -> dict[str, Any]:
    """Return what /api/tags and /api/show would say of a library model, from the catalogue's own numbers."""
    found = catalog.find(text)
    assert found, f"{text} is not in the catalogue: describe the model in full"
    numbers = found.entry.numbers
    arch = "bert" if found.entry.task == "embed" else "llama"
    info = {
        "general.architecture": arch,
        "general.parameter_count": int((numbers.params_b or 0) * 1e9),
        f"{arch}.block_count": numbers.layers,
        f"{arch}.embedding_length": numbers.hidden,
        f"{arch}.attention.head_count": numbers.heads,
        f"{arch}.attention.head_count_kv": numbers.kv_heads,
        f"{arch}.attention.key_length": numbers.head_dim,
        f"{arch}.context_length": numbers.max_context,
        f"{arch}.vocab_size": numbers.vocab,
        f"{arch}.feed_forward_length": numbers.intermediate,
    }
    quant = (parse(text).quant or "q4_K_M").upper()
    bits = catalog.quants.get(quant, (4.89, ""))[0] or 4.89
    can = ["embedding"] if arch == "bert" else ["completion"]
    can += ["tools"] if found.entry.tool_parser else []
    can += ["thinking"] if found.entry.reasoning_parser else []
    can += ["vision"] if found.entry.task == "vision" else []
    return {
        "name": text, "size": math.ceil((numbers.params_b or 0) * 1e9 * bits / 8), "capabilities": can,
        "quantization": quant, "parameter_size": f"{numbers.params_b}B", "digest": f"sha256:{text}",
        "architecture": {key: value for key, value in info.items() if value is not None},
    }  # fmt: skip


def facts(case: dict[str, Any]) -> Facts:
    catalog = load()
    models = [installed(one, catalog) if isinstance(one, str) else one for one in case.get("models", [])]
    models = [{**installed(one["like"], catalog), **{k: v for k, v in one.items() if k != "like"}}
              if "like" in one else one for one in models]
    found = plain_facts({**case, "models": models})
    gpus = tuple(dataclasses.replace(gpu, **extra) for gpu, extra in zip(
        found.gpus, case.get("gpu_details", [{}] * len(found.gpus)), strict=True))
    ollama = found.ollama
    if not case.get("container", True):
        ollama = dataclasses.replace(ollama, container=None)
    if "version" in case:
        ollama = dataclasses.replace(ollama, version=case["version"])
    return dataclasses.replace(
        found, ollama=ollama, gpus=gpus, host=Host(**{"system": "Linux", "machine": "x86_64", **case.get("host", {})}),
        gpu_problem="" if gpus else "no NVIDIA driver", traffic=traffic(case), driver=str(case.get("driver", "")),
        adapters=tuple(AdapterFacts(**one) for one in case.get("adapters", ())), cuda=str(case.get("cuda", "")), proxy=case.get("proxy", ""),
        hub=tuple(HubFact(**one) for one in case.get("hub", ())),
    )  # fmt: skip


def traffic(case: dict[str, Any]) -> Traffic:
    if "log" in case:
        return evidence.reconstruct(case["log"].splitlines(), "case.log")
    if "users" in case:
        return evidence.stated(case["users"])
    given = dict(case.get("traffic", {}))
    if not given:
        return Traffic()
    for key in ("concurrency", "latency", "prompt_tokens", "output_tokens"):
        if key in given:
            given[key] = Spread(**{"n": 1000, **given[key]})
    return Traffic(**{"source": "log", "origin": "ollama.log", "requests": 1000, "seconds": 7 * 86400.0, **given})
