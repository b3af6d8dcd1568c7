"""How much of a GPU each engine takes, in bytes, and whether both fit: estimates that err on the large side.

vLLM's rules (0.32): it asks for ceil(total x utilisation), refuses to start when less is free, and its CUDA
context comes on top. Ollama's: a model that does not fit whole is spilled to the CPU without an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from orchestrator.decide.catalog import Numbers
from orchestrator.decide.kv import Cache, element_bytes, null_block, sequence_bytes, token_bytes
from orchestrator.decide.shapes import Shape
from orchestrator.decide.weights import Estimate
from orchestrator.facts import Gpu, Loaded, Model

GIB = 2**30
MIB = 2**20
_BITS = {  # per weight of the linear layers, with scales; embeddings and head stay at 16
    "bf16": 16.0, "fp8": 8.06, "int8": 8.25, "int4": 4.25, "nvfp4": 4.5, "mxfp4": 4.25,
}  # fmt: skip
CONTEXT = 640 * MIB         # CUDA context, outside vLLM's own budget
NCCL = 512 * MIB            # more of the same with tensor parallelism
GRAPHS = 512 * MIB          # CUDA graphs of one engine
MARGIN = 256 * MIB          # fragmentation inside the budget
SPARE = 1228 * MIB          # stays free: llama.cpp wants 1 GiB free after a load, vLLM keeps 150 MiB
DISPLAY = 512 * MIB         # stays free besides where a screen hangs on the GPU
_VISION_TOWER = 1228 * MIB  # stays at 16 bit in quantised repositories
_RUNNER = 512 * MIB         # CUDA context of one llama-server
_BUFFERS = 512 * MIB        # its compute buffers, without the logits
MAX_PER_MILLE = 950     # of a GPU for one vLLM


def family(scheme: str) -> str:
    """Return the kind of weights behind a repository's scheme as the catalogue writes it."""
    text = scheme.lower()
    for kind, words in (
        ("nvfp4", ("nvfp4",)),
        ("mxfp4", ("mxfp4",)),
        ("fp8", ("fp8",)),
        ("int8", ("int8", "w8a8", "w8a16")),     # mixed int4/int8 counts as the larger
        ("int4", ("awq", "int4", "w4a16")),
    ):
        if any(word in text for word in words):
            return kind
    return "bf16"


def minimum_capability(scheme: str) -> float:
    """Return the compute capability below which vLLM refuses a scheme (weight-only kernels count)."""
    return {"nvfp4": 10.0, "mxfp4": 8.0, "fp8": 8.0}.get(family(scheme), 7.5)


@dataclass(frozen=True, slots=True)
class Ask:
    """What one vLLM is to hold, per GPU where it is split over `tensor_parallel` of them."""

    name: str
    numbers: Numbers
    scheme: str = "bf16"
    task: str = "generate"
    max_model_len: int = 8192
    max_num_seqs: int = 16
    batched_tokens: int | None = None
    tensor_parallel: int = 1
    eager: bool = False
    kv_dtype: str = "auto"
    shape: Shape | None = None      # layer by layer, where it is known: windows, latent vectors, recurrent layers

    def weights_range(self) -> Estimate:
        """Bytes per GPU as a range; `weights` is its bad end."""
        high = self.weights()
        return Estimate(math.floor(high / (1.03 if self.tensor_parallel > 1 else 1.01)), high)

    def weights(self) -> int:
        """Bytes per GPU; embeddings and head are counted apart and at 16 bit, as no scheme quantises them."""
        parameters = (self.numbers.params_b or 0) * 1e9
        bits = _BITS[family(self.scheme)]
        wide = 0.0
        if bits < 16:
            copies = 1 if self.task == "embed" else 2
            wide = min(parameters, copies * (self.numbers.vocab or 0) * (self.numbers.hidden or 0))
        total = wide * 2 + (parameters - wide) * bits / 8
        if self.numbers.vision and bits < 16:
            total += _VISION_TOWER
        return math.ceil(total / self.tensor_parallel * (1.03 if self.tensor_parallel > 1 else 1.01))

    def kv_token(self) -> int:
        """Bytes per token and GPU."""
        if self.shape and self.shape.known:
            return math.ceil(token_bytes(self.shape, self._cache()))
        whole = self.numbers.kv_token or 0
        if not self.numbers.mla and self.numbers.kv_heads:
            whole = whole // self.numbers.kv_heads * max(1, self.numbers.kv_heads // self.tensor_parallel)
        return whole // 2 if self.kv_dtype == "fp8" else whole

    def one_sequence(self) -> int:
        """Bytes of cache for one request of full length, in blocks of 16 tokens and one reserved block."""
        if self.shape and self.shape.known:
            return sequence_bytes(self.shape, self.max_model_len, self._cache()) + null_block(self.shape, self._cache())
        return (math.ceil(self.max_model_len / 16) + 1) * 16 * self.kv_token()

    def _cache(self) -> Cache:
        # The largest GPU's default: a window then keeps the most, which is the bad end.
        flight = self.batched_tokens or default_batched_tokens(160 * GIB)
        return Cache(element_bytes(self.kv_dtype), self.tensor_parallel, batched_tokens=flight)

    def activations(self, total: int) -> int:
        """Peak of the profiling run, in bytes, on a GPU with `total` bytes."""
        tokens = self.batched_tokens or default_batched_tokens(total)
        hidden = self.numbers.hidden or 4096
        wide = self.numbers.intermediate or 4 * hidden
        inside = tokens * 2 * (3 * wide // self.tensor_parallel + 6 * hidden)
        logits = self.max_num_seqs * (self.numbers.vocab or 128_000) * 4 * 3
        return 384 * MIB + inside + logits

    def graphs(self) -> int:
        return 0 if self.eager or self.task == "embed" else GRAPHS

    def context(self) -> int:
        return context_of(self.tensor_parallel)


def context_of(tensor_parallel: int) -> int:
    """Return what vLLM takes of each GPU outside its own budget, in bytes."""
    return CONTEXT + (NCCL if tensor_parallel > 1 else 0)


def default_batched_tokens(total: int) -> int:
    """Return vLLM's own max_num_batched_tokens for a GPU of this size (API server, 0.32)."""
    return 16384 if total >= 160 * GIB else 8192 if total >= 70 * GIB else 2048


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
    def problem(self) -> str:
        """Why it does not hold, with the numbers; empty when it does."""
        for share in self.shares:
            if share.kv < share.ask.one_sequence():
                one, length = gib(share.ask.one_sequence()), share.ask.max_model_len
                return f"{share.ask.name}: a cache of {gib(share.kv)} holds no request of {length} tokens ({one})"
            needed = share.weights + share.kv + share.activations + share.graphs
            if needed > share.requested:
                return f"{share.ask.name} needs {gib(needed)}, but its utilisation allows {gib(share.requested)}"
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
        if not parts:
            return f"GPU {self.gpu}: {gib(self.total)}, for Ollama alone"
        return f"GPU {self.gpu}: {gib(self.total)} = {' + '.join([*parts, verdict])}"


def _explained(share: Share) -> str:
    rest = share.requested - share.weights - share.kv - share.activations - share.graphs
    inside = [
        f"weights {gib(share.weights)}",
        f"KV {gib(share.kv)}",
        f"activations {gib(share.activations)}",
        *([f"graphs {gib(share.graphs)}"] if share.graphs else []),
        *([f"margin {gib(rest)}"] if rest > 0 else []),
    ]
    budget = f"vLLM {share.ask.name} {gib(share.requested)} ({', '.join(inside)})"
    return f"{budget} + its context {gib(share.ask.context())}"


def gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"


def fit(ask: Ask, total: int, room: int, tokens: int = 0) -> Share | None:
    """Return the engine's share of a GPU on which `room` bytes may be taken; None when one request does not fit.

    The cache gets what is left, up to `max_num_seqs` requests of full length, or only as much as `tokens`
    need. The utilisation is rounded up to a thousandth within the room, so that vLLM's start check passes.
    """
    fixed = ask.weights() + ask.activations(total) + ask.graphs() + MARGIN
    most = min((room - ask.context()) * 1000 // total, MAX_PER_MILLE)
    available = total * most // 1000 - fixed
    one = ask.one_sequence()
    if available < one:
        return None
    wanted = ask.max_num_seqs * one if not tokens else (tokens + 64) * ask.kv_token() + 64 * MIB
    kv = max(one, min(available, wanted) // (64 * MIB) * (64 * MIB))
    return share_of(ask, total, kv, -(-(fixed + kv) * 1000 // total) / 1000)


def share_of(ask: Ask, total: int, kv: int, utilization: float) -> Share:
    """Return what an engine with these settings takes of a GPU."""
    return Share(
        ask, ask.weights(), kv, ask.activations(total), ask.graphs(), utilization, math.ceil(total * utilization)
    )


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
