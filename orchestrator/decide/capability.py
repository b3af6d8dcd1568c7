"""The compute capability that the chosen weights need: a verdict is about what is proposed, not about vLLM at large."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.decide.catalog import Catalog
from orchestrator.decide.mapping import Mapping
from orchestrator.decide.options import ways
from orchestrator.decide.vram import family
from orchestrator.facts import Facts
from orchestrator.spec import Spec

# Where vLLM 0.32 itself refuses to start (get_min_capability); FP8 and NVFP4 run on older cards through weight-only
# kernels. What is proposed is chosen more carefully than this.
_REFUSED_BELOW = {"mxfp4": 8.0}
_FLOOR = 7.5


def refused_below(scheme: str) -> float:
    """Return the compute capability below which vLLM refuses weights of this scheme."""
    return _REFUSED_BELOW.get(family(scheme), _FLOOR)


def of_models(mappings: Iterable[Mapping]) -> float | None:
    """Return the least that any of these models can be served with; None where none has weights."""
    floors = [refused_below(scheme) for one in mappings if one.repo for _, scheme, _ in ways(one)]
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
            floors.append(refused_below(scheme))
    best = max((gpu.compute_capability for gpu in facts.gpus), default=0.0)
    most = max(floors, default=None)
    return most if most is not None and most > best else min(floors, default=None)
