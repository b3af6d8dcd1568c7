"""How much of a GPU Ollama takes, in bytes, and what belongs to neither engine: estimates on the large side."""

from __future__ import annotations

import math

from orchestrator.decide.catalog import Numbers
from orchestrator.facts import Gpu, Loaded, Model

_RUNNER = 512 * 2**20       # CUDA context of one llama-server
_BUFFERS = 512 * 2**20      # its compute buffers, without the logits


def ollama_footprint(
    model: Model, numbers: Numbers, context: int, parallel: int = 1, loaded: Loaded | None = None, kv_bits: float = 16
) -> int:
    """Return the bytes that Ollama's runner takes for a pinned model; measured where it is loaded that way now."""
    if loaded and loaded.context_length == context and not loaded.spilled and parallel == 1:
        return loaded.size + _RUNNER
    cache = (numbers.kv_token or 0) * context * parallel * kv_bits / 16
    logits = 512 * (numbers.vocab or 128_000) * 4
    return math.ceil(model.size * 1.01 + cache + logits + _BUFFERS + _RUNNER)


def spread(footprint: int, count: int) -> int:
    """Return what Ollama takes of each of `count` GPUs; llama.cpp splits by layer, so a tenth more on each."""
    return footprint if count == 1 else math.ceil(footprint * 1.1 / count)


def others_on(gpus: tuple[Gpu, ...], loaded: tuple[Loaded, ...]) -> dict[str, int]:
    """Return the bytes that processes other than Ollama hold, by GPU index.

    What Ollama says it holds is taken off where most is used; the driver's own share stays.
    """
    held = sum(one.size_vram + _RUNNER for one in loaded)
    found = {}
    for gpu in sorted(gpus, key=lambda gpu: gpu.total - gpu.free, reverse=True):
        used = max(0, gpu.total - gpu.free)
        ollama = min(used, held)
        held -= ollama
        found[gpu.index] = used - ollama
    return found
