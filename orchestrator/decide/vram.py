"""How much of a GPU each engine takes, in bytes, and whether both fit: estimates that err on the large side.

vLLM's rules (0.32): it asks for ceil(total x utilisation), refuses to start when less is free, and its CUDA
context comes on top. Ollama's: a model that does not fit whole is spilled to the CPU without an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from orchestrator.decide.engine_memory import (
    CONTEXT,
    GIB,
    GRAPHS,
    MIB,
    NCCL,
    Ask,
    Part,
    context_of,
    default_batched_tokens,
    family,
    gib,
    minimum_capability,
)  # fmt: skip
from orchestrator.decide.ollama_memory import ollama_footprint, others_on, spread

__all__ = [
    "CONTEXT", "DISPLAY", "GIB", "GRAPHS", "MARGIN", "MIB", "NCCL", "SPARE", "Ask", "GpuBudget", "Part", "Share",
    "context_of", "default_batched_tokens", "family", "fit", "gib", "minimum_capability", "ollama_footprint",
    "others_on", "share_of", "spread", "starts",
]  # fmt: skip
MARGIN = 256 * MIB          # fragmentation inside the budget
SPARE = 1228 * MIB          # stays free: llama.cpp wants 1 GiB free after a load, vLLM keeps 150 MiB
DISPLAY = 512 * MIB         # stays free besides where a screen hangs on the GPU
MAX_PER_MILLE = 950     # of a GPU for one vLLM


def starts(total: int, free: int, utilization: float) -> tuple[int, bool]:
    """Return (bytes that vLLM wants to find free, whether it starts); `free` is seen after its CUDA context."""
    requested = math.ceil(total * utilization)
    return requested, free >= requested


@dataclass(frozen=True, slots=True)
class Share:
    """What one vLLM takes of one GPU, in bytes."""

    ask: Ask
    weights: int
    kv: int
    activations: int
    graphs: int
    utilization: float
    requested: int      # ceil(total x utilisation): what vLLM wants to find free

    @property
    def needed(self) -> int:
        """Bytes that must fit into `requested`."""
        return self.weights + self.ask.beside() + self.kv + self.activations + self.graphs

    @property
    def sequences(self) -> float:
        """Requests of full length that fit into the cache at once."""
        one = self.ask.one_sequence()
        return self.kv / one if one else math.inf


@dataclass(frozen=True, slots=True)
class GpuBudget:
    """The inequality of one GPU. It holds when `left` is at least what must stay spare."""

    gpu: str
    total: int
    others: int = 0
    ollama: int = 0
    shares: tuple[Share, ...] = ()
    display: bool = False

    @property
    def spare(self) -> int:
        """Bytes that must stay free; a desktop's use moves, so more where a screen hangs on the GPU."""
        return SPARE + (DISPLAY if self.display else 0)

    @property
    def left(self) -> int:
        return self.total - self.others - self.ollama - sum(s.requested + s.ask.context() for s in self.shares)

    @property
    def used(self) -> bool:
        """Whether anything on it is counted: what Ollama loads only when asked for is not."""
        return bool(self.others >= 64 * MIB or self.ollama or self.shares)

    @property
    def problem(self) -> str:
        """Why it does not hold, with the numbers; empty when it does."""
        for share in self.shares:
            if share.kv < share.ask.one_sequence():
                one, length = gib(share.ask.one_sequence()), share.ask.max_model_len
                return f"{share.ask.name}: a cache of {gib(share.kv)} holds no request of {length} tokens ({one})"
            if share.needed > share.requested:
                return f"{share.ask.name} needs {gib(share.needed)}, but its utilisation allows {gib(share.requested)}"
            if share.utilization * 1000 > MAX_PER_MILLE:
                return f"{share.ask.name} asks for {share.utilization:.1%} of the GPU"
        if self.left < self.spare:
            why = " on a GPU with a screen" if self.display else ""
            return f"{gib(self.left)} would be left of {gib(self.total)}; {gib(self.spare)} must stay free{why}"
        return ""

    def __str__(self) -> str:
        parts = [f"others {gib(self.others)}"] if self.others >= 64 * MIB else []
        parts += [f"Ollama {gib(self.ollama)}"] if self.ollama else []
        parts += [_explained(share) for share in self.shares]
        verdict = f"does not fit: {self.problem}" if self.problem else f"{gib(self.left)} spare"
        if not self.used:
            return f"GPU {self.gpu}: {gib(self.total)}, for Ollama alone, which loads there what it is asked for"
        return f"GPU {self.gpu}: {gib(self.total)} = {' + '.join([*parts, verdict])}"


def _explained(share: Share) -> str:
    rest = share.requested - share.needed
    inside = [
        f"weights {gib(share.weights)}",
        *map(str, share.ask.parts),
        f"KV {gib(share.kv)}",
        f"activations {gib(share.activations)}",
        *([f"graphs {gib(share.graphs)}"] if share.graphs else []),
        *([f"margin {gib(rest)}"] if rest > 0 else []),
    ]
    budget = f"vLLM {share.ask.name} {gib(share.requested)} ({', '.join(inside)})"
    return f"{budget} + its context {gib(share.ask.context())}"


def fit(ask: Ask, total: int, room: int, tokens: int = 0) -> Share | None:
    """Return the engine's share of a GPU on which `room` bytes may be taken; None when one request does not fit.

    The cache gets what is left, up to `max_num_seqs` requests of full length, or only as much as `tokens`
    need. The utilisation is rounded up to a thousandth within the room, so that vLLM's start check passes.
    """
    fixed = ask.weights() + ask.beside() + ask.activations(total) + ask.graphs() + MARGIN
    most = min((room - ask.context()) * 1000 // total, MAX_PER_MILLE)
    available = total * most // 1000 - fixed
    one = ask.one_sequence()
    if available < one:
        return None
    wanted = ask.max_num_seqs * one
    if tokens:      # states and windows cost per request, so that the tokens alone may hold too few of them
        several = min(ask.max_num_seqs, math.ceil(tokens / ask.max_model_len)) * one
        wanted = max((tokens + 64) * ask.kv_token(), several) + 64 * MIB
    kv = max(one, min(available, wanted) // (64 * MIB) * (64 * MIB))
    return share_of(ask, total, kv, -(-(fixed + kv) * 1000 // total) / 1000)


def share_of(ask: Ask, total: int, kv: int, utilization: float) -> Share:
    """Return what an engine with these settings takes of a GPU."""
    return Share(
        ask, ask.weights(), kv, ask.activations(total), ask.graphs(), utilization, math.ceil(total * utilization)
    )
