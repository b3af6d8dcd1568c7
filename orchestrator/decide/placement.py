"""Which GPU each engine takes: a GPU of its own first, then a shared one with less of everything, else a no."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from orchestrator.decide.mapping import Mapping
from orchestrator.decide.options import ORDER, Option, Site, incapable, options
from orchestrator.decide.replicas import Load, copies
from orchestrator.decide.vram import GpuBudget, Share, family, fit, gib, spread
from orchestrator.facts import Gpu

_ENOUGH = 32768         # tokens of cache that a first choice should hold


@dataclass(frozen=True, slots=True)
class Placed:
    """An engine and its GPUs."""

    mapping: Mapping
    repo: str
    share: Share
    gpus: tuple[str, ...]
    reasons: tuple[str, ...]
    flag: str = ""      # vLLM's --quantization, where weights are quantised while they load
    replicas: int = 1   # copies, one on each of `gpus`
    loading: int = 0    # bytes per GPU while weights load, CUDA context included

    @property
    def passing(self) -> int:
        """Bytes per GPU that it takes beyond its share while it loads."""
        return max(0, self.loading - self.share.requested - self.share.ask.context())


@dataclass(frozen=True, slots=True)
class Placement:
    """Where everything goes. `refused`: model name to reason."""

    home: tuple[str, ...]       # the GPUs on which Ollama's pinned models are
    placed: tuple[Placed, ...]
    refused: dict[str, str]
    budgets: tuple[GpuBudget, ...]

    @property
    def shared(self) -> bool:
        return any(set(one.gpus) & set(self.home) for one in self.placed)


@dataclass(slots=True)
class _Board:
    """Room per GPU while engines are being placed; bytes."""

    gpus: dict[str, Gpu]
    others: dict[str, int]
    home: tuple[str, ...]
    ollama: int                 # per GPU of `home`
    load: Load
    start: str = "bf16"         # the largest kind of weights to try
    shares: dict[str, list[Share]] = field(default_factory=dict)
    passing: dict[str, dict[str, int]] = field(default_factory=dict)    # GPU -> model -> bytes while it loads

    def room(self, gpu: str, mine: str = "") -> int:
        """Bytes that the model `mine` may take: what another one needs only while it loads stays free.

        For engines start one after another, and again on their own after a crash.
        """
        budget = self.budget(gpu)
        others = (size for model, size in self.passing.get(gpu, {}).items() if model != mine)
        return budget.left - budget.spare - max(others, default=0)

    def take(self, one: Placed) -> None:
        for gpu in one.gpus:
            self.shares.setdefault(gpu, []).append(one.share)
            self.passing.setdefault(gpu, {})[one.mapping.model] = one.passing

    def budget(self, gpu: str) -> GpuBudget:
        ollama = self.ollama if gpu in self.home else 0
        shares = tuple(self.shares.get(gpu, ()))
        one = self.gpus[gpu]
        return GpuBudget(gpu, one.total, self.others.get(gpu, 0), ollama, shares, one.display)


def place(
    mappings: list[Mapping],
    gpus: tuple[Gpu, ...],
    others: dict[str, int],
    ollama: int,
    *,
    context: int,
    max_num_seqs: int = 16,
    prefer: tuple[str, ...] = (),
    load: Load | None = None,
    alone: bool = False,
) -> Placement:
    """Return the best placement with Ollama's pinned models (`ollama` bytes) resident beside the engines.

    Best: fewest refusals, then fewest engines that share a GPU with Ollama, then Ollama where it is today.
    `alone`: Ollama is on no GPU at all.
    """
    boards = [
        _Board({gpu.index: gpu for gpu in gpus}, others, home, spread(ollama, len(home)) if home else 0, load or Load())
        for home in ([()] if alone else _homes(gpus, others, ollama))
    ]
    # What the first engine takes, a second one lacks: with several, smaller weights for all are tried too.
    starts = ORDER[:5] if len(mappings) > 1 else ORDER[:1]
    tries = [
        _greedy(mappings, replace(board, start=start, shares={}, passing={}), context, max_num_seqs)
        for board in boards
        for start in starts
    ]
    if not tries:
        reason = f"Ollama's pinned models need {gib(ollama)}; no set of these GPUs has room for them"
        return Placement((), (), {one.model: reason for one in mappings}, ())
    return min(tries, key=lambda found: _rank(found, prefer))


def _rank(found: Placement, prefer: tuple[str, ...]) -> tuple[int, int, int, int]:
    sharing = sum(bool(set(one.gpus) & set(found.home)) for one in found.placed)
    asks = [one.share.ask for one in found.placed]
    lost = sum(3 * ask.eager + (ask.kv_dtype == "fp8") + ORDER.index(family(ask.scheme)) for ask in asks)
    return len(found.refused), sharing, lost, 0 if set(found.home) <= set(prefer) else 1


def _homes(gpus: tuple[Gpu, ...], others: dict[str, int], ollama: int) -> list[tuple[str, ...]]:
    """Return where Ollama can live: on each GPU that holds it, or over as few as do."""
    budgets = [GpuBudget(gpu.index, gpu.total, others.get(gpu.index, 0), display=gpu.display) for gpu in gpus]
    room = {one.gpu: one.left - one.spare for one in budgets}
    homes: list[tuple[str, ...]] = [(index,) for index, free in room.items() if free >= ollama]
    largest = sorted(room, key=lambda index: -room[index])
    for count in range(2, len(largest) + 1):
        if min(room[index] for index in largest[:count]) >= spread(ollama, count):
            return [*homes, tuple(sorted(largest[:count]))]
    return homes


def _greedy(mappings: list[Mapping], board: _Board, context: int, max_num_seqs: int) -> Placement:
    placed, refused = [], {}
    for mapping in sorted(mappings, key=lambda one: -(one.numbers.params_b or 0)):
        found = _best(mapping, board, context, max_num_seqs)
        if isinstance(found, str):
            refused[mapping.model] = found
            continue
        placed.append(found)
        board.take(found)
    placed = [_copied(_grown(one, board), board) for one in placed]
    order = {one.model: at for at, one in enumerate(mappings)}
    placed.sort(key=lambda one: order[one.mapping.model])
    budgets = tuple(board.budget(gpu) for gpu in board.gpus)
    return Placement(board.home, tuple(placed), refused, budgets)


def _grown(one: Placed, board: _Board) -> Placed:
    """Give an engine the room that is left on its GPUs, divided among the engines there; embeddings need none."""
    total = min(board.gpus[gpu].total for gpu in one.gpus)
    taken = one.share.requested + one.share.ask.context()
    more = min(board.room(gpu, one.mapping.model) // len(board.shares[gpu]) for gpu in one.gpus)
    share = fit(one.share.ask, total, taken + max(0, more))
    if share is None or share.kv <= one.share.kv or one.mapping.kind == "embedding":
        return one
    for gpu in one.gpus:
        board.shares[gpu] = [share if old is one.share else old for old in board.shares[gpu]]
    return replace(one, share=share)


def _copied(one: Placed, board: _Board) -> Placed:
    """Put copies on equal GPUs that nobody uses, where the load asks for them; never on Ollama's."""
    first = board.gpus[one.gpus[0]]
    if len(one.gpus) > 1 or first.index in board.home:
        return one
    needed = one.share.requested + one.share.ask.context()
    free = [gpu.index for gpu in board.gpus.values() if gpu.index not in board.home and not board.shares.get(gpu.index)
            and (gpu.total, gpu.compute_capability) == (first.total, first.compute_capability)
            and board.room(gpu.index) >= max(needed, one.loading)]  # fmt: skip
    count, why = copies(one.share, board.load, len(free))
    if count == 1:
        return one
    for gpu in free[: count - 1]:
        board.shares[gpu] = [one.share]
    return replace(one, gpus=(*one.gpus, *free[: count - 1]), replicas=count, reasons=(*one.reasons, why))


def _best(mapping: Mapping, board: _Board, context: int, max_num_seqs: int) -> Placed | str:
    if not mapping.numbers.params_b or (mapping.kind == "generate" and not mapping.numbers.kv_token):
        return "its size is not known, so no memory can be promised; give gpus and kv_cache in migrate.yaml"
    closest = None
    length = min(context, mapping.numbers.max_context or context)
    site = Site(board.gpus, board.home, board.room, board.start)
    for enough in (_ENOUGH, 0):
        for one in options(mapping, site, length, max_num_seqs):
            room = min(board.room(gpu) for gpu in one.gpus)
            total = min(board.gpus[gpu].total for gpu in one.gpus)
            peak = one.loading + one.ask.context()
            share = fit(one.ask, total, room, enough) if peak <= room else None
            if share and share.sequences * length >= enough:
                return Placed(mapping, one.repo, share, one.gpus, one.why(mapping, board.home), one.flag, loading=peak)
            closest = (one, total, room)
    return _closest(*closest) if closest else f"no GPU here can run it: {incapable(mapping)}."


def _closest(one: Option, total: int, room: int) -> str:
    ask = one.ask
    needed = ask.weights() + ask.one_sequence() + ask.activations(total) + ask.graphs()
    needed = max(needed, one.loading) + ask.context()
    made = f", made so on load ({one.flag})" if one.flag else ""
    least = f"{one.scheme} weights ({one.repo}{made}) need {gib(needed)} for one request of {ask.max_model_len} tokens"
    return f"{least}; GPU {'+'.join(one.gpus)} has room for {gib(room)}."
