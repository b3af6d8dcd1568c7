"""The longest context with which everything that moves fits beside Ollama: the ladder's rung after other weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from orchestrator.decide import today
from orchestrator.decide.budget import pinned_bytes
from orchestrator.decide.catalog import Catalog
from orchestrator.decide.mapping import Mapping
from orchestrator.decide.placement import Placement, place
from orchestrator.decide.replicas import Load, load_of
from orchestrator.decide.vram import others_on
from orchestrator.facts import Facts

CONTEXTS = (262144, 131072, 65536, 32768, 16384, 8192, 4096)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What users need: tokens of context, requests at once per engine, and the load behind both."""

    context: int
    sequences: int
    load: Load = field(default_factory=Load)
    shortest: int = CONTEXTS[-1]

    def contexts(self) -> Iterator[int]:
        """Yield the wanted context, then shorter ones."""
        yield self.context
        yield from (size for size in CONTEXTS if self.shortest <= size < self.context)


def wanted_of(facts: Facts) -> tuple[Wanted, str, str]:
    """Return what users need, and why the context and the number of sequences are what they are."""
    (context, told), (sequences, why) = today.context(facts), today.sequences(facts)
    return Wanted(context, sequences, load_of(facts)), told, why


def search(
    moving: list[Mapping],
    pinned: tuple[str, ...],
    facts: Facts,
    catalog: Catalog,
    wanted: Wanted,
    *,
    sized: Facts | None = None,
) -> tuple[Placement, int]:
    """Return the placement with the longest context that refuses fewest models, and that context.

    `pinned`: Ollama's models that stay loaded, none for a GPU without Ollama; `sized`: facts in which they have
    other sizes.
    """
    others = others_on(facts.gpus, facts.ollama.loaded)
    container, parallel = facts.ollama.container, today.parallel(facts)
    prefer = (container.gpus or ()) if container else ()

    def tried(length: int) -> tuple[Placement, int]:
        ollama, _ = pinned_bytes(pinned, sized or facts, catalog, length, parallel)
        found = place(
            moving, facts.gpus, others, ollama, context=length, max_num_seqs=wanted.sequences, prefer=prefer,
            load=wanted.load,
        )  # fmt: skip
        return found, length

    lengths = list(wanted.contexts())
    best = tried(lengths[0])
    if not best[0].refused or len(lengths) == 1:
        return best
    last = tried(lengths[-1])
    if len(last[0].refused) == len(best[0].refused):    # a context in between refuses no fewer than the shortest
        return best
    for length in lengths[1:-1]:
        found = tried(length)
        if len(found[0].refused) <= len(last[0].refused):
            return found
    return last
