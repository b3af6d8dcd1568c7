"""What an engine of the stack file holds of its GPUs besides its own model, for the proof."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.decide import adapters, lora
from orchestrator.decide.catalog import Catalog
from orchestrator.decide.engine_memory import Ask, Part, gib
from orchestrator.decide.speculative import drafted, speculative_cost
from orchestrator.decide.vllm_flags import read
from orchestrator.facts import Facts
from orchestrator.spec import Spec
from orchestrator.spec_engine import Engine


def laden(spec: Spec, name: str, facts: Facts, catalog: Catalog, ask: Ask) -> tuple[Ask, list[str]]:
    """Return the ask with LoRA slots and drafts in it, and what nobody can size. `spec`: with its flags applied."""
    engine, parts, unknown = spec.engines[name], [], []
    said = engine.vllm.speculative
    ask = replace(ask, chunked=engine.vllm.chunked_prefill is not False, drafted=drafted(said) if said else 0)
    for part, why in (_lora(spec, name, facts, ask), _drafts(engine, ask, catalog, facts)):
        parts += [part] if part else []
        unknown += [f"engine {name}: {why}"] if why else []
    return replace(ask, parts=tuple(parts)), unknown


def _drafts(engine: Engine, ask: Ask, catalog: Catalog, facts: Facts) -> tuple[Part | None, str]:
    said = engine.vllm.speculative
    return speculative_cost(said, ask, catalog, facts.hub) if said else (None, "")


def _lora(spec: Spec, name: str, facts: Facts, ask: Ask) -> tuple[Part | None, str]:
    engine = spec.engines[name]
    line = read([*engine.extra_args, *engine.vllm.args])
    switch = line.get("--enable-lora")
    own = switch is not None and not switch.word.startswith("--no-")
    if not engine.adapters and not own:
        return None, ""
    found = adapters.of_engine(spec, name, facts, ask.numbers)
    given = line.get("--lora-modules")
    count = len(found) or (len(given.values) if given else 0)
    slots = _number(line.get("--max-loras"), adapters.slots(engine) if found else 1)
    rank = _number(line.get("--max-lora-rank"), max((one.max_rank or 0 for one in found), default=16))
    size = lora.vram(rank, ask.numbers, slots, ask.tensor_parallel)
    many = f"{count} adapter{'s' * (count != 1)}" if count else "adapters loaded later"
    where = f"{many} in {slots} slot{'s' * (slots != 1)}" if slots != count else many
    if size is None:
        return None, f"LoRA: {where}, rank {rank}: what the slots take of this architecture is not known"
    return Part("LoRA", size, f"LoRA: {where}, rank {rank}, {gib(size)}"), ""


def _number(option: object, default: int) -> int:
    value = getattr(option, "value", None)
    return int(value) if isinstance(value, str) and value.isdecimal() and int(value) > 0 else default
