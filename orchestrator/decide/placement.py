"""Which GPU each engine takes: a GPU of its own first, then a shared one with less of everything, else a no."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from orchestrator.decide.mapping import Mapping
from orchestrator.decide.vram import Ask, GpuBudget, Share, family, fit, gib, minimum_capability, spread
from orchestrator.facts import Gpu

_ORDER = ("bf16", "mxfp4", "fp8", "int8", "int4", "nvfp4")
_ENOUGH = 32768         # tokens of cache that a first choice should hold
_LEAN_CONTEXT = 8192    # up to here speed is given up before context
_Option = tuple[str, str, tuple[str, ...], Ask, tuple[str, ...]]     # repository, scheme, GPUs, ask, reasons
HELP = (
    "another GPU, a shorter context, or a smaller model on the Ollama side would help; taking turns on one GPU "
    "(a hand-over: one engine resident at a time) is not offered yet."
)


@dataclass(frozen=True, slots=True)
class Placed:
    """An engine and its GPUs."""

    mapping: Mapping
    repo: str
    share: Share
    gpus: tuple[str, ...]
    reasons: tuple[str, ...]


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
    start: str = "bf16"         # the largest kind of weights to try
    shares: dict[str, list[Share]] = field(default_factory=dict)

    def room(self, gpu: str) -> int:
        budget = self.budget(gpu)
        return budget.left - budget.spare

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
) -> Placement:
    """Return the best placement with Ollama's pinned models (`ollama` bytes) resident beside the engines.

    Best: fewest refusals, then fewest engines that share a GPU with Ollama, then Ollama where it is today.
    """
    boards = [
        _Board({gpu.index: gpu for gpu in gpus}, others, home, spread(ollama, len(home)))
        for home in _homes(gpus, others, ollama)
    ]
    # What the first engine takes, a second one lacks: with several, smaller weights for all are tried too.
    starts = _ORDER[:5] if len(mappings) > 1 else _ORDER[:1]
    tries = [
        _greedy(mappings, replace(board, start=start, shares={}), context, max_num_seqs)
        for board in boards
        for start in starts
    ]
    if not tries:
        reason = f"Ollama's pinned models need {gib(ollama)}; no set of these GPUs has room for them"
        return Placement((), (), {one.model: reason for one in mappings}, ())
    return min(tries, key=lambda found: _rank(found, prefer))


def _rank(found: Placement, prefer: tuple[str, ...]) -> tuple[int, int, int, int]:
    sharing = sum(bool(set(one.gpus) & set(found.home)) for one in found.placed)
    lost = sum(3 * one.share.ask.eager + _ORDER.index(family(one.share.ask.scheme)) for one in found.placed)
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
        for gpu in found.gpus:
            board.shares.setdefault(gpu, []).append(found.share)
    placed = [_grown(one, board) for one in placed]
    order = {one.model: at for at, one in enumerate(mappings)}
    placed.sort(key=lambda one: order[one.mapping.model])
    budgets = tuple(board.budget(gpu) for gpu in board.gpus)
    return Placement(board.home, tuple(placed), refused, budgets)


def _grown(one: Placed, board: _Board) -> Placed:
    """Give an engine the room that is left on its GPUs, divided among the engines there; embeddings need none."""
    total = min(board.gpus[gpu].total for gpu in one.gpus)
    taken = one.share.requested + one.share.ask.context()
    more = min(board.room(gpu) // len(board.shares[gpu]) for gpu in one.gpus)
    share = fit(one.share.ask, total, taken + max(0, more))
    if share is None or share.kv <= one.share.kv or one.mapping.kind == "embedding":
        return one
    for gpu in one.gpus:
        board.shares[gpu] = [share if old is one.share else old for old in board.shares[gpu]]
    return replace(one, share=share)


def _best(mapping: Mapping, board: _Board, context: int, max_num_seqs: int) -> Placed | str:
    if not mapping.numbers.params_b or (mapping.kind == "generate" and not mapping.numbers.kv_token):
        return "its size is not known, so no memory can be promised; give gpus and kv_cache in migrate.yaml"
    closest = ""
    length = min(context, mapping.numbers.max_context or context)
    for enough in (_ENOUGH, 0):
        for repo, scheme, gpus, ask, why in _options(mapping, board, length, max_num_seqs):
            room = min(board.room(gpu) for gpu in gpus)
            total = min(board.gpus[gpu].total for gpu in gpus)
            share = fit(ask, total, room, enough)
            if share and share.sequences * length >= enough:
                return Placed(mapping, repo, share, gpus, why)
            needed = ask.weights() + ask.one_sequence() + ask.activations(total) + ask.graphs() + ask.context()
            least = f"{scheme} weights ({repo}) need {gib(needed)} for one request of {length} tokens"
            closest = f"{least}; GPU {'+'.join(gpus)} has room for {gib(room)}"
    return f"{closest or 'no GPU here can run it (compute capability 7.5 or newer is needed)'}. {HELP}"


def _options(mapping: Mapping, board: _Board, length: int, max_num_seqs: int) -> Iterator[_Option]:
    """Yield ways to run a model, the most wanted first: own GPU before a shared one, less loss before more."""
    ask = Ask(mapping.model, mapping.numbers, mapping.scheme, mapping.task, length, max_num_seqs)
    apart = [gpu for gpu in board.gpus if gpu not in board.home]
    for gpus, sharing in ((apart, False), (list(board.gpus), True)):
        for repo, scheme in _repositories(mapping, board.start):
            able = [gpu for gpu in gpus if board.gpus[gpu].compute_capability >= minimum_capability(scheme)]
            for group in _groups(able, board, mapping):
                if sharing and not set(group) & set(board.home):
                    continue
                base = replace(ask, scheme=scheme, tensor_parallel=len(group))
                why = _why(repo, scheme, mapping, group, sharing)
                yield repo, scheme, group, base, why
    yield from _lean(mapping, board, ask) if length <= _LEAN_CONTEXT else ()


def _lean(mapping: Mapping, board: _Board, ask: Ask) -> Iterator[_Option]:
    """Yield the last resort on each GPU: the smallest weights it can run, an 8-bit cache, no CUDA graphs."""
    for gpu, capability in ((gpu, board.gpus[gpu].compute_capability) for gpu in board.gpus):
        able = [one for one in _repositories(mapping, board.start) if capability >= minimum_capability(one[1])]
        if able and capability >= 8.9:
            repo, scheme = able[-1]
            lean = replace(ask, scheme=scheme, eager=True, kv_dtype="fp8", max_num_seqs=min(4, ask.max_num_seqs))
            why = (*_why(repo, scheme, mapping, (gpu,), gpu in board.home), "8-bit cache and no CUDA graphs")
            yield repo, scheme, (gpu,), lean, why


def _repositories(mapping: Mapping, start: str) -> list[tuple[str, str]]:
    """Return the repository as it is, then one per smaller kind of weights; the first named of each kind."""
    found = {family(mapping.scheme): (mapping.repo or "", mapping.scheme)}
    if mapping.confidence != "given":
        own = (mapping.repo or "").partition("/")[0]
        for repo, scheme in sorted(mapping.quantized, key=lambda item: _trust(item[0], item[1], own)):
            found.setdefault(family(scheme), (repo, scheme))
    kinds = [kind for kind in _ORDER if kind in found]
    return [found[kind] for kind in kinds if _ORDER.index(kind) >= _ORDER.index(start)] or [found[kinds[-1]]]


def _trust(repo: str, scheme: str, own: str) -> tuple[int, int]:
    """Order repositories of one kind: the author's own, then known quantisers; w4a16 before AWQ before GPTQ."""
    owner = repo.partition("/")[0]
    who = 0 if owner == own else 1 if owner in ("RedHatAI", "nvidia") else 2 if owner == "hugging-quants" else 3
    how = ("w4a16", "awq", "gptq-int4", "fp8-dynamic", "fp8")
    return who, how.index(scheme) if scheme in how else len(how)


def _groups(able: list[str], board: _Board, mapping: Mapping) -> list[tuple[str, ...]]:
    """Return single GPUs, the roomiest first, then sets of equal whole GPUs for tensor parallelism (never MIG)."""
    roomy = sorted(able, key=lambda gpu: -board.room(gpu))
    groups: list[tuple[str, ...]] = [(gpu,) for gpu in roomy]
    heads = mapping.numbers.heads or 0
    for size in (2, 4, 8):
        unsplit = [gpu for gpu in roomy if not board.gpus[gpu].mig]
        equal = [gpu for gpu in unsplit if board.gpus[gpu].total == board.gpus[unsplit[0]].total]
        if len(equal) >= size and heads and heads % size == 0:
            groups.append(tuple(sorted(equal[:size])))
    return groups


def _why(repo: str, scheme: str, mapping: Mapping, group: tuple[str, ...], sharing: bool) -> tuple[str, ...]:
    where = "shares a GPU with Ollama" if sharing else "has a GPU apart from Ollama's"
    if len(group) > 1:
        where += f"; split over {len(group)} GPUs"
    what = "weights as published" if repo == mapping.repo else f"{scheme} weights, as the published ones do not fit"
    return where, what
