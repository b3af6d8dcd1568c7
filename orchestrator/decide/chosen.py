"""Every value that an engine is started with, and why it is that one: a line each, for the printed plan."""

from __future__ import annotations

import math
from collections.abc import Iterator

from orchestrator.decide import today
from orchestrator.decide.budget import Proof
from orchestrator.decide.catalog import Catalog
from orchestrator.decide.effective import effective
from orchestrator.decide.loading import made_on_load
from orchestrator.decide.vllm_flags import read
from orchestrator.decide.vram import Share, family, gib
from orchestrator.facts import Facts
from orchestrator.spec import Spec
from orchestrator.spec_engine import Engine

_BFLOAT16 = 8.0     # compute capability


def chosen_lines(spec: Spec, facts: Facts, catalog: Catalog, sums: Proof | None, *, proposed: bool) -> list[str]:
    """Return a heading per engine and a line per value.

    `proposed`: this tool chose the values; else they are those of a stack file, and the arithmetic says what they
    come to.
    """
    shares = {one.ask.name: one for budget in (sums.budgets if sums else ()) for one in budget.shares}
    lines = []
    for name, engine in spec.engines.items():
        real = effective(engine)
        own = [key for key in type(engine).model_fields if getattr(engine, key) != getattr(real, key)]
        lines.append(f"settings of {name}, and why" + ("" if proposed else " (values of migrate.yaml)"))
        lines += [f"  {line}" for line in _values(real, shares.get(name), facts, catalog, proposed=proposed)]
        lines += [f"  yours win: {', '.join(sorted(own))} as vllm.args or extra_args say"] if own else []
    return lines


def _values(
    engine: Engine, share: Share | None, facts: Facts, catalog: Catalog, *, proposed: bool
) -> Iterator[str]:
    yield f"max-model-len {engine.max_model_len}: {_length(engine, facts, catalog, proposed=proposed)}"
    yield f"max-num-seqs {engine.max_num_seqs}: {_sequences(engine, facts, proposed=proposed)}"
    yield _cache(engine, share)
    if share:
        yield (f"utilisation {engine.gpu_memory_utilization:g}: {gib(share.requested)} of the GPU, for "
               f"{gib(share.needed)} and a margin; vLLM starts only when that much is free, whatever the cache's size")
    if engine.dtype == "auto" and engine.task == "embed" and not engine.gpus:
        yield "dtype float32: with 16 bit, vLLM's choice on a CPU, an engine that embeds dies at its first request"
    else:
        yield f"dtype {engine.dtype}: {_dtype(engine, facts)}"
    yield _quantisation(engine, catalog)
    if engine.gpus:
        yield _split(engine)
        yield "CUDA graphs off (eager): saves their memory, slower" if engine.enforce_eager else (
            "CUDA graphs on: faster, for the memory counted above" if engine.task == "generate" else
            "CUDA graphs: an embedding engine is counted without")  # fmt: skip
    if engine.task == "generate":
        yield _prefixes(engine)


def _length(engine: Engine, facts: Facts, catalog: Catalog, *, proposed: bool) -> str:
    known = catalog.by_repo(engine.repo)
    most = known[0].numbers.max_context if known else None
    wanted, told = today.context(facts)
    told = told.partition(": ")[2] or told
    if not proposed or engine.max_model_len > wanted:
        return "as stated; a longer prompt is refused by vLLM and cut by the adapter, as Ollama does"
    if engine.max_model_len == wanted:
        return told
    if most and engine.max_model_len == most:
        return f"the model's own limit; today's {wanted}: {told}"
    return f"instead of {wanted} ({told}), on both sides: with more they do not fit"


def _sequences(engine: Engine, facts: Facts, *, proposed: bool) -> str:
    wanted, told = today.sequences(facts)
    if engine.max_num_seqs == wanted:
        return told.partition(": ")[2]
    if proposed and engine.max_num_seqs < wanted:
        return f"instead of {wanted}: with more it does not fit; beyond it requests wait, they are not refused"
    return "as stated; beyond it requests wait, they are not refused"


def _cache(engine: Engine, share: Share | None) -> str:
    kind = "8-bit cache (fp8), half the bytes" if engine.kv_cache_dtype == "fp8" else "cache at the model's own width"
    if share is None:
        return f"KV {gib(engine.kv_cache)}: {kind}"
    full = share.sequences
    if math.isinf(full):
        return f"KV {gib(engine.kv_cache)} per GPU; {kind}"
    count = f"all {engine.max_num_seqs}" if full >= engine.max_num_seqs else f"{full:.1f} of {engine.max_num_seqs}"
    return f"KV {gib(engine.kv_cache)} per GPU: {count} requests at full length, more where they are shorter; {kind}"


def _dtype(engine: Engine, facts: Facts) -> str:
    if engine.dtype != "auto":
        return "as stated"
    alias = {name: gpu for gpu in facts.gpus for name in (gpu.index, gpu.uuid)}
    mine = [alias[gpu].compute_capability for gpu in engine.gpus if gpu in alias]
    if mine and min(mine) < _BFLOAT16:
        return "as the repository says, but float16 where it says bfloat16, which this GPU lacks"
    return "as the repository says"


def _quantisation(engine: Engine, catalog: Catalog) -> str:
    known = catalog.by_repo(engine.repo)
    scheme = known[1] if known else ""
    if made_on_load(engine, catalog):
        return f"quantisation {engine.quantization}: made on load; the 16-bit weights are downloaded whole all the same"
    if engine.quantization:
        return f"quantisation {engine.quantization}: as stated"
    if scheme and family(scheme) != "bf16":
        return f"quantisation {scheme}: in the repository; vLLM reads it from there"
    return "quantisation none: weights as published" if scheme else "quantisation: whatever the repository says"


def _split(engine: Engine) -> str:
    ranks, copies = engine.tensor_parallel, engine.replicas
    each = "one GPU" if ranks == 1 else f"{ranks} GPUs (tensor parallel), as one does not hold it"
    if copies > 1:
        return f"{copies} replicas of {each} each: for more requests at once than one answers"
    return f"{each}, one replica" if ranks > 1 else "one GPU, one replica: no tensor parallelism, as it fits"


def _prefixes(engine: Engine) -> str:
    options = read([*engine.extra_args, *engine.vllm.args]).options
    if said := [one for one in options if one.key == "--enable-prefix-caching"]:
        off = said[-1].word.startswith("--no-")
        return f"prefix caching {'off' if off else 'on'}: as your own flag says"
    return "prefix caching on: vLLM's own default; equal beginnings are computed once, within the same cache"
