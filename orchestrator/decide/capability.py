"""The compute capability that the chosen weights need: a verdict is about what is proposed, not about vLLM at large."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.decide.catalog import Catalog
from orchestrator.decide.mapping import Mapping
from orchestrator.decide.options import floor, ways
from orchestrator.decide.vram import minimum_capability
from orchestrator.facts import Facts
from orchestrator.spec import Spec


def of_models(mappings: Iterable[Mapping]) -> float | None:
    """Return the least that any of these models can be served with; None where none has weights."""
    floors = [floor(way) for one in mappings if one.repo for way in ways(one)]
    return min(floors, default=None)


def of_spec(spec: Spec, facts: Facts, catalog: Catalog) -> float | None:
    """Return what the engines need: the most where these GPUs lack that, else the least.

    So one engine that cannot start is seen, and a GPU that serves any of them is not called useless.
    None where nothing is known of the weights, or for the CPU build.
    """
    if spec.accelerator == "cpu":
        return None
    floors = []
    for engine in spec.engines.values():
        known = catalog.by_repo(engine.repo)
        scheme = engine.quantization or (known[1] if known else "")
        if scheme:
            floors.append(minimum_capability(scheme))
    best = max((gpu.compute_capability for gpu in facts.gpus), default=0.0)
    most = max(floors, default=None)
    return most if most is not None and most > best else min(floors, default=None)
