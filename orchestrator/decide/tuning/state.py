"""Today's Ollama as its settings meet its models and its GPUs: the sums that tuning works with."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from orchestrator.decide.catalog import Numbers, load
from orchestrator.decide.mapping import gguf_numbers
from orchestrator.decide.readings import number, whole
from orchestrator.decide.vram import GIB, ollama_footprint
from orchestrator.facts import Facts, Gpu, Loaded, Model
from orchestrator.names import canonical

KV_BITS = {"q8_0": 8.5, "q4_0": 4.5}    # per value, with scales
NEWEST = (99, 0, 0)
LLAMA_SERVER = (0, 30, 0)   # from here on every GGUF model runs in llama-server
# Ollama's scheduler gives these one request at a time, whatever is set (0.33).
_FORCED = re.compile(r"^(mllama|qwen3-?vl(-?moe)?|qwen35(moe)?|qwen3next|lfm2(moe)?|nemotron_?h.*)$")


@dataclass(frozen=True, slots=True)
class Seen:
    """A model with what is known of it; context in tokens, per request."""

    model: Model
    numbers: Numbers
    context: int
    loaded: Loaded | None

    def length(self, context: int | None) -> int:
        """Return its context under another OLLAMA_CONTEXT_LENGTH, which its Modelfile's num_ctx overrules."""
        if context is None or "num_ctx" in self.model.parameters:
            return self.context
        return min(context, self.numbers.max_context or context)

    @property
    def forced(self) -> bool:
        family = (self.model.family or str(self.model.architecture.get("general.architecture", ""))).lower()
        return self.model.kind == "embedding" or bool(_FORCED.match(family.replace(".", "")))


@dataclass(frozen=True, slots=True)
class State:
    """`resident`: models that are or would be loaded; sizes in bytes; room None: not known."""

    facts: Facts
    version: tuple[int, ...]
    env: dict[str, str] | None      # None: it cannot be seen
    parallel: int
    context: int
    context_from: str
    resident: tuple[Seen, ...]
    room: int | None

    def cache(self, context: int | None = None, *, batched: bool = False) -> int | None:
        """Bytes of cache at 16 bit, one request for each resident model; context None: today's.

        batched: without the models that answer one request at a time. None: of one model it is not known.
        """
        found = [one for one in self.resident if not (batched and one.forced)]
        sizes = [one.numbers.kv_token * one.length(context) for one in found if one.numbers.kv_token]
        return sum(sizes) if sizes and len(sizes) == len(found) else None

    @property
    def held(self) -> int | None:
        """Bytes that loaded models take beyond their weights: no cache can give back more."""
        loaded = [one.loaded.size - one.model.size for one in self.resident if one.loaded and one.model.size]
        return max(0, sum(loaded)) if loaded and len(loaded) == len(self.resident) else None

    @property
    def kv_bits(self) -> float:
        return KV_BITS.get((self.env or {}).get("OLLAMA_KV_CACHE_TYPE", "").strip().lower(), 16)

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        return tuple(gpu for gpu in self.facts.gpus if gpu.vendor.lower() in ("nvidia", ""))


def parse_version(text: str) -> tuple[int, ...]:
    """Return (0, 32, 6) for `0.32.6-rc1`; an unreadable one counts as the newest."""
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    if not found or found[0] == "0.0.0":
        return NEWEST
    return tuple(int(part or 0) for part in found.groups())


def look(facts: Facts) -> State:
    """Return the sums for what is there."""
    version = parse_version(facts.ollama.version)
    env = facts.ollama.container.env if facts.ollama.container else None
    parallel = whole((env or {}).get("OLLAMA_NUM_PARALLEL")) or 1
    context, source = _context(facts, env or {}, version)
    resident = _resident(facts, context)
    state = State(facts, version, env, parallel, context, source, resident, None)
    return State(facts, version, env, parallel, context, source, resident, _room(state))


def default_context(facts: Facts, version: tuple[int, ...]) -> int:
    """Return Ollama's own default: by the VRAM of all GPUs since 0.15.5."""
    if version < (0, 15, 5):
        return 4096 if version >= (0, 5, 13) else 2048
    total = sum(gpu.total for gpu in facts.gpus)
    return 262144 if total >= 47 * GIB else 32768 if total >= 23 * GIB else 4096


def _context(facts: Facts, env: dict[str, str], version: tuple[int, ...]) -> tuple[int, str]:
    stated = whole(env.get("OLLAMA_CONTEXT_LENGTH"))
    if stated:
        return stated, "set"
    held = [one.context_length for one in facts.ollama.loaded if one.context_length > 0]
    return (max(held), "of what is loaded") if held else (default_context(facts, version), "default")


def seen(facts: Facts, model: Model, context: int) -> Seen:
    """Return a model with its shape: from its own metadata, else from the catalogue."""
    loaded = next((one for one in facts.ollama.loaded if canonical(one.name) == canonical(model.name)), None)
    own = gguf_numbers(model.architecture)
    if not own.kv_token:
        found = load().find(model.name)
        own = found.entry.numbers if found else own
    asked = _asked(model)
    length = loaded.context_length if loaded and loaded.context_length > 0 else int(asked or context)
    return Seen(model, own, min(length, own.max_context or length), loaded)


def _asked(model: Model) -> float | None:
    value = model.parameters.get("num_ctx")
    plain = number(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    return plain if plain and plain >= 1 else None


def _resident(facts: Facts, context: int) -> tuple[Seen, ...]:
    """What is loaded now; where nothing is, the model most asked for, else the largest that answers prompts."""
    local = [seen(facts, model, context) for model in facts.ollama.models if not model.remote_host]
    held = tuple(one for one in local if one.loaded)
    answering = [one for one in local if one.model.kind == "generate"] or local
    uses = {canonical(name): count for name, count in (facts.traffic.models or {}).items()}
    first = sorted(answering, key=lambda one: (uses.get(canonical(one.model.name), 0), one.model.size))[-1:]
    return held or tuple(first)


def footprint(one: Seen, parallel: int, bits: float) -> int:
    """Return the bytes of VRAM of a model when it is loaded."""
    return ollama_footprint(one.model, one.numbers, one.context, 1 if one.forced else parallel, one.loaded, bits)


def _room(state: State) -> int | None:
    """Bytes that may still be taken on the GPU with most free; llama.cpp keeps 1 GiB of each free."""
    if not state.gpus:
        return None
    free = max(gpu.free for gpu in state.gpus) - GIB
    waiting = [one for one in state.resident if one.loaded is None]
    spilled = sum(max(0, one.loaded.size - one.loaded.size_vram) for one in state.resident if one.loaded)
    return math.floor(free - spilled - sum(footprint(one, state.parallel, state.kv_bits) for one in waiting))
