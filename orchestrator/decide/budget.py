"""The proof of a whole spec: does what it asks for fit on these GPUs? Works on any spec, also a hand-written one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from orchestrator.decide import adapters
from orchestrator.decide.bars import bar
from orchestrator.decide.beside import laden
from orchestrator.decide.catalog import Catalog, Numbers
from orchestrator.decide.confirm import measured
from orchestrator.decide.effective import effective_spec
from orchestrator.decide.loading import loading_problems
from orchestrator.decide.mapping import gguf_numbers
from orchestrator.decide.shaping import shape_for
from orchestrator.decide.speculative import refusals, step_notes
from orchestrator.decide.vram import (
    GIB,
    Ask,
    GpuBudget,
    Share,
    context_of,
    default_batched_tokens,
    ollama_footprint,
    others_on,
    share_of,
    spread,
)
from orchestrator.facts import Facts, Gpu, Loaded, Model
from orchestrator.names import canonical
from orchestrator.spec import Spec
from orchestrator.spec_engine import Engine

_KV_BITS = {"q8_0": 8.5, "q4_0": 4.5}


@dataclass(frozen=True, slots=True)
class Running:
    """An engine of this stack that holds memory now, as it was started: the next `up` replaces it."""

    gpus: tuple[str, ...]
    utilization: float


@dataclass(frozen=True, slots=True)
class Proof:
    """One inequality per GPU, and what could not be counted."""

    budgets: tuple[GpuBudget, ...]
    unknown: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()       # what no amount of memory would mend

    @property
    def problems(self) -> list[str]:
        return [*self.refused, *(f"GPU {one.gpu}: {one.problem}" for one in self.budgets if one.problem)]

    def report(self, width: int = 60) -> str:
        """Return each inequality, its bar, and the range of what is estimated; the large end is what is proven."""
        lines = []
        for one in self.budgets:
            lines += [str(one), *([bar(one, width)] if one.used else [])]
            for ask in (share.ask for share in one.shares):
                said = [f"weights {ask.weights_range()}", *(part.detail for part in ask.parts), *ask.notes]
                lines += [f"  {ask.name}: {text}" for text in said]
        return "\n".join([*lines, *self.refused, *self.unknown])

    def __str__(self) -> str:
        return "\n".join([*map(str, self.budgets), *self.unknown])


def proof(spec: Spec, facts: Facts, catalog: Catalog, running: Iterable[Running] = ()) -> Proof:
    """Return the VRAM inequality of every GPU that the spec uses.

    `running`: this stack's own engines, whose memory is not counted as somebody else's.
    """
    if spec.accelerator == "cpu":
        return Proof((), ("no GPU: memory of the host is not counted", *adapters.doubts(spec, facts, catalog)))
    spec = effective_spec(spec)     # the user's own flags count as they will run
    gpus = {gpu.index: gpu for gpu in facts.gpus}
    alias = {gpu.uuid: gpu.index for gpu in facts.gpus}
    unknown = [f"GPU {gpu} of the spec is not here" for gpu in _used(spec) if alias.get(gpu, gpu) not in gpus]
    shares: dict[str, list[Share]] = {}
    refused: list[str] = []
    for name, engine in spec.engines.items():
        ask = ask_of(spec, name, facts, catalog)
        if ask is None:
            unknown.append(f"engine {name}: the size of {engine.repo} is not known")
            continue
        ask, unsized = laden(spec, name, facts, catalog, ask)
        unknown += unsized
        refused += refusals(name, ask, engine.max_num_batched_tokens)
        for one in (gpus[alias.get(g, g)] for g in engine.gpus if alias.get(g, g) in gpus):
            ask = replace(ask, notes=step_notes(ask, one.total, engine.max_num_batched_tokens))
            share = share_of(ask, one.total, engine.kv_cache, engine.gpu_memory_utilization)
            shares.setdefault(one.index, []).append(share)
    ollama, missing = _ollama(spec, facts, catalog, [alias.get(gpu, gpu) for gpu in spec.ollama.gpus])
    others = others_on(facts.gpus, facts.ollama.loaded)
    for mine in running:
        for gpu in (gpus[alias.get(g, g)] for g in mine.gpus if alias.get(g, g) in gpus):
            ours = math.ceil(gpu.total * mine.utilization) + context_of(len(mine.gpus))
            others[gpu.index] = max(0, others[gpu.index] - ours)
    used = [gpu for index, gpu in gpus.items() if index in shares or index in ollama]
    budgets = tuple(_budget(gpu, others, ollama, shares) for gpu in used)
    unknown += adapters.doubts(spec, facts, catalog)
    refused += [*_split_over_mig(spec, facts), *loading_problems(spec, budgets, catalog)]
    return Proof(budgets, (*unknown, *missing), tuple(refused))


def _budget(gpu: Gpu, others: dict[str, int], ollama: dict[str, int], shares: dict[str, list[Share]]) -> GpuBudget:
    taken = tuple(shares.get(gpu.index, ()))
    return GpuBudget(gpu.index, gpu.total, others.get(gpu.index, 0), ollama.get(gpu.index, 0), taken, gpu.display)


def _split_over_mig(spec: Spec, facts: Facts) -> tuple[str, ...]:
    slices = {name for gpu in facts.gpus if gpu.mig for name in (gpu.index, gpu.uuid)}
    return tuple(
        f"engine {name} is split over MIG instances, which cannot talk to each other: give it one, or whole GPUs"
        for name, engine in spec.engines.items()
        if engine.tensor_parallel > 1 and slices & set(engine.gpus)     # copies need not talk to each other
    )


def _used(spec: Spec) -> list[str]:
    return list(dict.fromkeys([*spec.ollama.gpus, *(gpu for one in spec.engines.values() for gpu in one.gpus)]))


def ask_of(spec: Spec, name: str, facts: Facts, catalog: Catalog) -> Ask | None:
    """Return what an engine of the spec asks for; None when nobody knows its size."""
    engine: Engine = spec.engines[name]
    routes = [model for model, route in spec.routes.items() if route.engine == name]
    models = [m for m in facts.ollama.models if canonical(m.name) in map(canonical, routes)]
    numbers, scheme, files = measured(engine.repo, catalog, models, facts.hub)
    if not numbers.params_b:
        return None
    return Ask(
        name=name,
        numbers=numbers,
        scheme=engine.quantization or scheme,
        task=engine.task,
        max_model_len=engine.max_model_len,
        max_num_seqs=engine.max_num_seqs,
        batched_tokens=engine.max_num_batched_tokens or _default_batch(engine, facts),
        tensor_parallel=engine.tensor_parallel,
        eager=engine.enforce_eager,
        kv_dtype=engine.kv_cache_dtype,
        shape=shape_for(engine.repo, catalog, models, facts.hub),
        files=None if engine.quantization else files,
    )


def _default_batch(engine: Engine, facts: Facts) -> int:
    sizes = [gpu.total for gpu in facts.gpus if {gpu.index, gpu.uuid} & set(engine.gpus)]
    return default_batched_tokens(max(sizes, default=160 * GIB))


def pinned_bytes(
    names: tuple[str, ...], facts: Facts, catalog: Catalog, context: int, parallel: int, kv_bits: float = 16
) -> tuple[int, tuple[str, ...]]:
    """Return what Ollama needs to hold these models at once, and the models that nobody knows."""
    total, missing = 0, []
    for name in names:
        model = next((m for m in facts.ollama.models if canonical(m.name) == canonical(name)), None)
        found = catalog.find(name)
        numbers = found.entry.numbers if found else Numbers()
        if model is None and found is None:
            missing.append(f"Ollama: the size of {name} is not known")
            continue
        model = model or _typical(name, numbers, catalog)
        own = gguf_numbers(model.architecture)
        numbers = own if own.kv_token else numbers
        embeds = model.kind == "embedding"
        length = min(context, numbers.max_context or context)
        loaded = _loaded(facts, name)
        total += ollama_footprint(model, numbers, length, 1 if embeds else parallel, loaded, kv_bits)
    return total, tuple(missing)


def _loaded(facts: Facts, name: str) -> Loaded | None:
    return next((one for one in facts.ollama.loaded if canonical(one.name) == canonical(name)), None)


def _typical(name: str, numbers: Numbers, catalog: Catalog) -> Model:
    """Return a library model that is not installed here, with the file size of its default quantisation."""
    family = canonical(name).partition(":")[0]
    quant = catalog.families.get(family, (None, None))[1] or "Q4_K_M"
    bits = catalog.quants.get(quant, (4.89, ""))[0] or 4.89
    return Model(name, size=round((numbers.params_b or 0) * 1e9 * bits / 8))


def _ollama(
    spec: Spec, facts: Facts, catalog: Catalog, gpus: list[str]
) -> tuple[dict[str, int], tuple[str, ...]]:
    ollama = spec.ollama
    kv_bits = _KV_BITS.get(ollama.env.get("OLLAMA_KV_CACHE_TYPE", ""), 16)
    total, missing = pinned_bytes(
        ollama.pinned, facts, catalog, ollama.context_length or 4096, ollama.num_parallel or 1, kv_bits
    )
    apart = len(gpus) > 1 and ollama.env.get("OLLAMA_SCHED_SPREAD") in ("1", "true")
    # Without spreading Ollama takes any one of its GPUs, so each must have the room.
    return dict.fromkeys(gpus, spread(total, len(gpus)) if apart else total), missing
