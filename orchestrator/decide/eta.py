"""How long each phase takes: ranges from sizes, speeds and the spec; every assumption is said."""

from __future__ import annotations

import math
from dataclasses import dataclass

from orchestrator.spec import Spec
from orchestrator.spec_load import Load

# Assumed where nobody measured: a slow office line to a fast data-centre one, a SATA SSD to NVMe.
LINK = (12.5e6, 125e6)
DISK = (0.4e9, 2.0e9)
RATE = (10.0, 100.0)        # output tokens/s of one user
# Engine start beyond reading weights. A 7-8B model takes 1-3 minutes warm on a GPU, its first compile tens of
# seconds to minutes more; a tiny model on the CPU build takes 26-48 s (measured).
START_GPU = (60.0, 360.0)
START_CPU = (26.0, 120.0)
RELOAD = (2.0, 15.0)        # a llama-server's own start beyond reading weights
SETTLE = (3.0, 30.0)        # until a side has stopped and the GPU's free memory stands still
GATE_PROMPTS = 20           # smoke parity: about so many prompts, on both sides
SUITE_PROMPTS = 55          # the built-in suite, besides
FREE_TOKENS = 12 * 8        # its prompts without sampling parameters, each so short
PLAIN_PAIRS = 3             # pairs of runs after which a plain load test is decided
FEW_REQUESTS, MANY_REQUESTS = 22, 60    # of each run, before and after that


@dataclass(frozen=True, slots=True)
class Known:
    """What is known about sizes (bytes left to fetch) and speeds (bytes/s, tokens/s); None: assumed, and said.

    `weights` is by engine; an engine that is missing or None has an unknown size.
    """

    weights: dict[str, int | None]
    images: int | None = None
    link: float | None = None
    disk: float | None = None
    tokens: float | None = None


@dataclass(frozen=True, slots=True)
class Eta:
    """One phase; seconds. `high_s` None: nobody can say, and `why` says what is missing."""

    phase: str
    low_s: float
    high_s: float | None
    why: str


def estimate(spec: Spec, known: Known) -> list[Eta]:
    """Return the phases of a migration in order; pure arithmetic, no clock."""
    migrating = spec.migrating()
    generating = sum(route.kind == "generate" for route in migrating.values())
    found = [_weights(spec, known), _fetch("images", known.images, known.link)]
    if spec.ollama.container:
        drain = spec.takeover.drain
        found.append(Eta("take-over", 2, drain + 60, f"up to {drain:g} s for running answers, one restart of Ollama"))
    count = sum(engine.replicas for engine in spec.engines.values())
    if count:
        each = f"{_engines(count)}, one token from each"
        found += [_start(spec, known), Eta("healthcheck", count, 30 * count, each)]
    if migrating:
        found.append(_parity(spec, known, generating, len(migrating) - generating))
    if generating:
        found.append(_load(spec, known, generating))
    if migrating:
        found += [_cutover(spec), Eta("rollback", 0, 2, "weights change at once; running answers end on vLLM")]
    return found


def lines(etas: list[Eta]) -> list[str]:
    """Return one aligned line per phase: name, range, why."""
    width = max((len(eta.phase) for eta in etas), default=0)
    spans = [span(eta) for eta in etas]
    wide = max(map(len, spans), default=0)
    return [f"{eta.phase:<{width}}  {text:<{wide}}  {eta.why}" for eta, text in zip(etas, spans, strict=True)]


def span(eta: Eta) -> str:
    """Return the range in words: `under 1 min`, `2-9 min`, `unknown`."""
    if eta.high_s is None:
        return f"over {duration(eta.low_s)}" if eta.low_s else "unknown"
    low, high = duration(eta.low_s), duration(eta.high_s)
    return low if low == high else f"{low} to {high}"


def duration(seconds: float) -> str:
    """Return seconds in the unit that one would say, rounded up, so that nobody waits longer than told."""
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    if seconds < 90 * 60:
        return f"{math.ceil(seconds / 60)} min"
    return f"{math.ceil(seconds / 360) / 10:g} h"


def _speed(measured: float | None, assumed: tuple[float, float], scale: float, unit: str) -> tuple[float, float, str]:
    if measured is not None and math.isfinite(measured) and measured > 0:
        return measured, measured, f"{measured / scale:g} {unit} measured"
    return *assumed, f"assumed {assumed[0] / scale:g} to {assumed[1] / scale:g} {unit}"


def _fetch(phase: str, size: int | None, link: float | None) -> Eta:
    if size is None:
        return Eta(phase, 0, None, "the size is not known")
    if size <= 0:
        return Eta(phase, 0, 0, "already here")
    slow, fast, said = _speed(link, LINK, 1e6, "MB/s")
    return Eta(phase, size / fast, size / slow, f"{size / 1e9:.1f} GB at {said}")


def _weights(spec: Spec, known: Known) -> Eta:
    repos: dict[str, int | None] = {}
    for name, engine in spec.engines.items():       # two engines of one repository fetch it once
        size = known.weights.get(name)
        repos[engine.repo] = repos.get(engine.repo, size) if size is None else size
    missing = [repo for repo, size in repos.items() if size is None]
    told = _fetch("download", sum(size or 0 for size in repos.values()), known.link)
    if missing:
        return Eta("download", told.low_s, None, f"the size of {', '.join(missing)} is not known")
    return told


def _start(spec: Spec, known: Known) -> Eta:
    sizes = [known.weights.get(name) or 0 for name, engine in spec.engines.items() for _ in range(engine.replicas)]
    return engine_start(sizes, known.disk, cpu=spec.accelerator == "cpu")


def engine_start(sizes: list[int], disk: float | None = None, *, cpu: bool = False) -> Eta:
    """Return how long engines with weights of these bytes take to start, one after another; `disk` in bytes/s."""
    low, high = START_CPU if cpu else START_GPU
    slow, fast, said = _speed(disk, DISK, 1e9, "GB/s")
    count = len(sizes)
    why = f"{_engines(count)}{' one after another' if count > 1 else ''}: weights from disk ({said}), compile, warm-up"
    return Eta("vLLM start", count * low + sum(sizes) / fast, count * high + sum(sizes) / slow, why)


def ollama_start(size: int, disk: float | None = None) -> Eta:
    """Return how long Ollama takes to load models of `size` bytes again."""
    slow, fast, said = _speed(disk, DISK, 1e9, "GB/s")
    return Eta("reload", RELOAD[0] + size / fast, RELOAD[1] + size / slow, f"{size / 1e9:.1f} GB from disk ({said})")


def _tokens(known: Known) -> tuple[float, float, str]:
    return _speed(known.tokens, RATE, 1, "tokens/s per user")


def _parity(spec: Spec, known: Known, generating: int, embedding: int) -> Eta:
    slow, fast, said = _tokens(known)
    parity = spec.parity
    prompts = GATE_PROMPTS + (SUITE_PROMPTS * parity.repeats if parity.suites else 0)
    free = FREE_TOKENS * parity.samples if parity.suites else 0
    tokens = 2 * (prompts * parity.max_tokens + free) * generating
    why = f"about {prompts} answers of at most {parity.max_tokens} tokens on both sides, {said}"
    return Eta("parity", embedding + tokens / fast / 4, 30 * embedding + tokens / slow, why)


def _load(spec: Spec, known: Known, generating: int) -> Eta:
    slow, fast, said = _tokens(known)
    load = spec.load
    few, many = _load_rounds(load, PLAIN_PAIRS), _load_rounds(load, load.pairs)
    # vLLM batches, so users overlap there; at worst Ollama answers them one after another.
    low = generating * load.max_tokens * sum(count / users for users, count in few) * 2 / fast
    high = generating * load.max_tokens * sum(count + count / users for users, count in many) / slow
    users = ", ".join(map(str, load.users))
    times = f"{PLAIN_PAIRS} to {load.pairs} times the highest"
    why = f"{users} users x {load.max_tokens} tokens on both sides, {times}, {said}"
    bound = generating * load.budget
    return Eta("load test", min(low, bound), min(high, bound), why)


def _load_rounds(load: Load, pairs: int) -> list[tuple[int, int]]:
    """Return (users, requests) of each level on one side: each once, the highest as often as its verdict needs."""
    top = max(load.users)
    rounds = [(users, max(users * load.requests_per_user, 10)) for users in set(load.users) - {top}]
    first = max(top * load.requests_per_user, FEW_REQUESTS)
    later = max(top * load.requests_per_user, MANY_REQUESTS)
    return [*rounds, (top, PLAIN_PAIRS * first + (pairs - PLAIN_PAIRS) * later)]


def _cutover(spec: Spec) -> Eta:
    cutover = spec.cutover
    count = len(cutover.steps)
    # As Flagger counts: interval x steps; the longest wait is the patience at each step.
    why = (
        f"{count} steps x {cutover.bake:g} s bake; up to {cutover.patience:g} s each "
        f"while under {cutover.min_requests} requests came"
    )
    return Eta("cutover", count * cutover.bake, count * max(cutover.bake, cutover.patience), why)


def _engines(count: int) -> str:
    return f"{count} engine{'s' if count != 1 else ''}"
