"""What one vLLM takes of a GPU, in bytes: weights, cache, activations, and what it holds besides its own model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from orchestrator.decide.catalog import Numbers
from orchestrator.decide.kv import Cache, element_bytes, null_block, sequence_bytes, token_bytes
from orchestrator.decide.shapes import Shape
from orchestrator.decide.weights import Estimate, loaded, stored

GIB = 2**30
MIB = 2**20
CONTEXT = 640 * MIB         # CUDA context, outside vLLM's own budget
NCCL = 512 * MIB            # more of the same with tensor parallelism
GRAPHS = 512 * MIB          # CUDA graphs of one engine


def gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"


@lru_cache(maxsize=256)
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
class Part:
    """What an engine holds inside its budget besides its own model: LoRA slots, a draft model.

    `bytes` per GPU, the bad end of a range that begins at `low`; `kv_token` is what it adds to each token's cache.
    """

    label: str
    bytes: int
    detail: str = ""
    kv_token: int = 0
    low: int | None = None

    def __str__(self) -> str:
        return f"{self.label} {gib(self.bytes)}"


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
    parts: tuple[Part, ...] = ()
    chunked: bool = True            # chunked prefill: without it a whole prompt goes through in one step
    notes: tuple[str, ...] = ()     # what a reader of the proof should know of these numbers
    drafted: int = 0                # speculative tokens: a state each beside those of a linear layer
    files: int | None = None        # bytes of the repository's weights as they are loaded, where they were seen

    def weights_range(self) -> Estimate:
        """Bytes per GPU as a range; `weights` is its bad end."""
        high = self.weights()
        return Estimate(math.floor(high / loaded(family(self.scheme), self.tensor_parallel)), high)

    def weights(self) -> int:
        """Bytes per GPU; embeddings and head are counted apart and at 16 bit, as no scheme quantises them."""
        total = self.files or stored(self.numbers, family(self.scheme), embed=self.task == "embed")
        return math.ceil(total / self.tensor_parallel * loaded(family(self.scheme), self.tensor_parallel))

    def beside(self) -> int:
        """Bytes per GPU of LoRA slots, draft models and the like."""
        return sum(part.bytes for part in self.parts)

    def kv_token(self) -> int:
        """Bytes per token and GPU, a draft model's included: both share one cache."""
        return self._own_token() + self._beside_token()

    def _beside_token(self) -> int:
        return sum(part.kv_token for part in self.parts)

    def _own_token(self) -> int:
        if self.shape and self.shape.known:
            return math.ceil(token_bytes(self.shape, self._cache()))
        whole = self.numbers.kv_token or 0
        if not self.numbers.mla and self.numbers.kv_heads:
            whole = whole // self.numbers.kv_heads * max(1, self.numbers.kv_heads // self.tensor_parallel)
        return whole // 2 if self.kv_dtype == "fp8" else whole

    def one_sequence(self) -> int:
        """Bytes of cache for one request of full length, in blocks of 16 tokens and one reserved block."""
        blocks = (math.ceil(self.max_model_len / 16) + 1) * 16
        if self.shape and self.shape.known:
            own = sequence_bytes(self.shape, self.max_model_len, self._cache()) + null_block(self.shape, self._cache())
            return own + blocks * self._beside_token()
        return blocks * self.kv_token()

    def _cache(self) -> Cache:
        # The largest GPU's default: a window then keeps the most, which is the bad end.
        flight = self.batched_tokens or default_batched_tokens(160 * GIB)
        ranks, element = self.tensor_parallel, element_bytes(self.kv_dtype)
        return Cache(element, ranks, batched_tokens=flight, drafted=self.drafted)

    def step_tokens(self, total: int) -> int:
        """Return max_num_batched_tokens as it will be on a GPU with `total` bytes."""
        tokens = self.batched_tokens or default_batched_tokens(total)
        return tokens if self.chunked else max(tokens, self.max_model_len)

    def activations(self, total: int) -> int:
        """Peak of the profiling run, in bytes, on a GPU with `total` bytes."""
        tokens = self.step_tokens(total)
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
