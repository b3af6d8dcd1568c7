"""What would still help a model that fits nowhere beside Ollama: the ladder's rungs that the user has to take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from orchestrator.decide.catalog import Catalog
from orchestrator.decide.handover import Handover, handover
from orchestrator.decide.mapping import Mapping
from orchestrator.decide.options import published
from orchestrator.decide.placement import Placement
from orchestrator.decide.recipe import recipe, target
from orchestrator.decide.search import CONTEXTS, Wanted, search
from orchestrator.decide.vram import family, gib
from orchestrator.facts import Facts, Model
from orchestrator.names import canonical, slug
from orchestrator.spec_needs import Needs

_QUANTS = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_K_S", "Q3_K_L", "Q3_K_S", "Q2_K")
T = TypeVar("T")
_POOR = 4.0     # bits per weight below which answers get visibly worse
TRIED = (
    "Tried without success: another GPU, smaller published weights, weights made on load, shorter contexts, an 8-bit "
    "cache, no CUDA graphs."
)


@dataclass(frozen=True, slots=True)
class World:
    """What every rung looks at. `names`: Ollama's models that have to stay loaded; `seen`: searches already done."""

    names: tuple[str, ...]
    facts: Facts
    catalog: Catalog
    wanted: Wanted
    needs: Needs = field(default_factory=Needs)
    seen: dict[tuple[int, str], Placement] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refused:
    """Models that stay, with what would help; scripts to write beside the stack file, by name; hand-overs."""

    stays: dict[str, str] = field(default_factory=dict)
    recipes: dict[str, str] = field(default_factory=dict)
    handovers: tuple[Handover, ...] = ()
    notes: tuple[str, ...] = ()


def refusals(found: Placement, length: int, primary: list[Mapping], moving: list[Mapping], world: World) -> Refused:
    """Return what becomes of the models that `found` refuses, and of those that got less context than wanted."""
    stays: dict[str, str] = {}
    recipes: dict[str, str] = {}
    handovers, notes = [], []
    taken = _taken(found)
    for one in primary:
        lost, short = one.model in found.refused, length < world.wanted.context
        if not lost and not short:
            continue
        told, script = _by_hand(one, primary, world, 0 if lost else length)
        turns = _in_turns(one, world, taken) if lost else None
        if turns is None and lost and not told and (script := recipe(one)):
            turns = _in_turns(_made(one), world, taken)
            told = f"{_script(one)} makes 4-bit weights, which nobody has published." if turns else ""
        if told:
            recipes[_script(one)] = script
        if not lost:
            notes += [told] if told else []
            continue
        handovers += [turns] if turns else []
        why = found.refused[one.model]
        rungs = [why, TRIED, smaller_ollama(one, primary, world), told, _turns(turns)] if "GiB" in why else [why]
        text = " ".join(part for part in rungs if part)
        stays |= {same.model: text for same in moving if same.repo == one.repo}
    if found.placed and length < world.wanted.context:
        notes += _longer(found, primary, world)
    return Refused(stays, recipes, tuple(handovers), tuple(notes))


def _longer(found: Placement, primary: list[Mapping], world: World) -> list[str]:
    """Name the smaller copies in Ollama with which the wanted context would have fitted: that rung is the user's."""
    length = world.wanted.context

    def works(quant: str) -> bool:
        return bool(_smaller(world, quant)) and set(_with(quant, length, primary, world).refused) <= set(found.refused)

    quant = _first(_QUANTS, works)
    return [f"{_named(quant, world)} would leave room for {length} tokens"] if quant else []


def _in_turns(one: Mapping, world: World, taken: dict[str, int]) -> Handover | None:
    return handover(one, world.names, world.facts, world.catalog, world.wanted, needs=world.needs, taken=taken)


def _made(one: Mapping) -> Mapping:
    return replace(one, quantized=((target(one), "w4a16"),), confidence="likely")


def _script(one: Mapping) -> str:
    return f"quantize-{slug(one.model)}.py"


def _taken(found: Placement) -> dict[str, int]:
    held: dict[str, int] = {}
    for one in found.placed:
        for gpu in one.gpus:
            held[gpu] = held.get(gpu, 0) + one.share.requested + one.share.ask.context()
    return held


def _turns(found: Handover | None) -> str:
    if found is None:
        return "One of the two does not fit alone either: a hand-over (taking turns) would not help."
    where = f"GPU {', '.join(found.gpus)} with {found.context} tokens"
    last = f"refused, as {found.refused}" if found.refused else "not offered yet"
    return f"Alone, with Ollama unloaded, {found.repo} would fit on {where}: a hand-over (taking turns), {last}."


def smaller_ollama(one: Mapping, primary: list[Mapping], world: World) -> str:
    """Say which smaller quantisation of Ollama's copies would make room for this engine, with bytes."""
    lengths = dict.fromkeys((world.wanted.context, min(CONTEXTS[-1], world.wanted.context)))

    def works(tried: tuple[int, str]) -> bool:
        length, quant = tried
        return bool(_smaller(world, quant)) and one.model not in _with(quant, length, primary, world).refused

    found = _first([(length, quant) for length in lengths for quant in _QUANTS], works)
    if not found:
        return "No smaller quantisation on Ollama's side makes enough room."
    return f"Would help: {_named(found[1], world)}: then {found[0]} tokens fit."


def _first(tries: Sequence[T], works: Callable[[T], bool]) -> T | None:
    """Return the first that works. The last is the least, so where that does not, nothing else is tried."""
    return next(filter(works, tries)) if works(tries[-1]) else None


def _with(quant: str, length: int, primary: list[Mapping], world: World) -> Placement:
    """Return the placement with Ollama's copies at `quant` and this context; the same for every model, so kept."""
    if (length, quant) not in world.seen:
        asked = replace(world.wanted, context=length, shortest=length)
        changed = {old.name: new for old, new in _smaller(world, quant)}
        sized = _sized(world, changed)
        world.seen[length, quant], _ = search(primary, world.names, world.facts, world.catalog, asked, sized=sized)
    return world.seen[length, quant]


def _smaller(world: World, quant: str) -> list[tuple[Model, Model]]:
    """Return Ollama's pinned models that `quant` makes smaller: (as it is, as it would be)."""
    pinned = set(map(canonical, world.names))
    models = [model for model in world.facts.ollama.models if canonical(model.name) in pinned]
    pairs = [(model, _as(model, quant, world.catalog)) for model in models]
    return [(old, new) for old, new in pairs if new.size < old.size]


def _named(quant: str, world: World) -> str:
    parts = ", ".join(f"{new.name} {gib(new.size)} instead of {gib(old.size)}" for old, new in _smaller(world, quant))
    poor = ", but below 4 bits answers get worse" if (world.catalog.quants[quant][0] or 8) < _POOR else ""
    return f"Ollama's copies at {quant} ({parts}), where its library has them{poor}"


def _as(model: Model, quant: str, catalog: Catalog) -> Model:
    """Return the model as it would be at another quantisation; itself where that is not smaller or not known."""
    bits = catalog.quants.get(quant, (None, ""))[0]
    now = catalog.quants.get(model.quantization.upper(), (None, ""))[0]
    if not bits or not now or bits >= now or model.kind == "embedding":
        return model
    return replace(model, size=round(model.size * bits / now), quantization=quant)


def _sized(world: World, shrunk: dict[str, Model]) -> Facts:
    ollama = world.facts.ollama
    models = tuple(shrunk.get(model.name, model) for model in ollama.models)
    changed = {name for name, model in shrunk.items() if model not in ollama.models}
    loaded = tuple(one for one in ollama.loaded if one.name not in changed)     # measured as it was, not as it would be
    return replace(world.facts, ollama=replace(ollama, models=models, loaded=loaded))


def _by_hand(one: Mapping, primary: list[Mapping], world: World, now: int) -> tuple[str, str]:
    """Return what 4-bit weights of one's own would do, and the script that makes them; empty where nothing.

    `now`: the context that fits without them.
    """
    script = recipe(one)
    if not script or any(family(scheme) in ("int4", "mxfp4") for _, scheme in published(one)):
        return "", ""
    others = [_made(one) if two is one else two for two in primary]
    found, length = search(others, world.names, world.facts, world.catalog, world.wanted)
    if one.model in found.refused or length <= now:
        return "", ""
    return (
        f"Nobody has published 4-bit weights of {one.repo}: {_script(one)}, beside the stack file, makes W4A16 ones "
        f"(LLM Compressor), which leave {length} tokens beside Ollama; then name their directory as the engine's repo."
    ), script
