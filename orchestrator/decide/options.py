"""Ways to run a model on the GPUs that are there, the most wanted first: whose weights, made how, split over which."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from orchestrator.decide.alternatives import online, trust
from orchestrator.decide.loading import loading_bytes
from orchestrator.decide.mapping import Mapping
from orchestrator.decide.vram import Ask, default_batched_tokens, family, gib, minimum_capability
from orchestrator.facts import Gpu

ORDER = ("bf16", "mxfp4", "fp8", "int8", "int4", "nvfp4")
LEAN_CONTEXT = 8192     # up to here speed is given up before context
FP8_CACHE = 8.9         # compute capability from which vLLM's own kernels read an 8-bit cache
_FEW = 4
_BFLOAT16 = 8.0
# Model types for which vLLM 0.32 refuses float16: on an older GPU they would run in 32 bit, with twice the weights.
_NO_FLOAT16 = re.compile(
    r"gemma-?[23](?![a-z0-9])|(?:function|translate|med|shield)gemma|glm-4-(?:9b|32b)-0414|plamo-?2", re.IGNORECASE
)


Way = tuple[str, str, str]      # repository, scheme, flag


@dataclass(frozen=True, slots=True)
class Option:
    """One way. `flag`: vLLM's --quantization where 16-bit weights are quantised while they load, else empty."""

    repo: str
    scheme: str
    gpus: tuple[str, ...]
    ask: Ask
    flag: str = ""

    @property
    def loading(self) -> int:
        """Bytes per GPU while weights load, before there is any cache."""
        return loading_bytes(self.ask, self.flag)

    def why(self, mapping: Mapping, home: tuple[str, ...]) -> tuple[str, ...]:
        """Return where it is, whose weights it takes, and what was given up for it. `home`: Ollama's GPUs."""
        where = "shares a GPU with Ollama" if set(self.gpus) & set(home) else "has a GPU apart from Ollama's"
        if len(self.gpus) > 1:
            where += f"; split over {len(self.gpus)} GPUs"
        what = f"{self.scheme} weights, as the published ones do not fit"
        if self.flag:
            peak = f"at most {gib(self.loading)} while they load"
            what = f"16-bit weights, made 8-bit on load (--quantization {self.flag}, {peak}): no smaller ones fit here"
        elif self.repo == mapping.repo:
            what = "weights as published"
        given_up = (("8-bit cache", self.ask.kv_dtype == "fp8"), ("no CUDA graphs", self.ask.eager))
        lost = [word for word, so in given_up if so]
        less = (f"{' and '.join(lost)}: less accuracy or speed, so that it fits",) if lost else ()
        return where, what, *less


@dataclass(frozen=True, slots=True)
class Site:
    """The GPUs as they are while engines are being placed. `room`: bytes that are free on one of them."""

    gpus: dict[str, Gpu]
    home: tuple[str, ...]
    room: Callable[[str], int]
    start: str = "bf16"     # the largest kind of weights to try


def options(mapping: Mapping, site: Site, length: int, max_num_seqs: int) -> Iterator[Option]:
    """Yield ways to run a model: own GPU before a shared one, less loss before more, quantised on load last."""
    ask = Ask(mapping.model, mapping.numbers, mapping.scheme, mapping.task, length, max_num_seqs, shape=mapping.shape)
    apart = [gpu for gpu in site.gpus if gpu not in site.home]
    known = {gpu.compute_capability: ways(mapping, gpu.compute_capability, site.start) for gpu in site.gpus.values()}
    every = [one for one in ways(mapping, None, site.start) if any(one in found for found in known.values())]
    for gpus, sharing in ((apart, False), (list(site.gpus), True)):
        for repo, scheme, flag in every:
            able = [gpu for gpu in gpus if (repo, scheme, flag) in known[site.gpus[gpu].compute_capability]]
            for group in _groups(able, site, mapping):
                if sharing and not set(group) & set(site.home):
                    continue
                flight = default_batched_tokens(max(site.gpus[gpu].total for gpu in group))
                base = replace(ask, scheme=scheme, tensor_parallel=len(group), batched_tokens=flight,
                               files=None if flag else mapping.files.get(repo))  # fmt: skip
                yield Option(repo, scheme, group, base, flag)
    yield from _lean(mapping, site, ask, known) if length <= LEAN_CONTEXT else ()


def _lean(mapping: Mapping, site: Site, ask: Ask, known: dict[float, list[Way]]) -> Iterator[Option]:
    """Yield the last resorts: the smallest weights a GPU can run with an 8-bit cache, then without CUDA graphs."""
    few = min(_FEW, ask.max_num_seqs)
    for eager, seqs in dict.fromkeys(((False, ask.max_num_seqs), (True, ask.max_num_seqs), (True, few))):
        for gpu in sorted(_unlike(list(site.gpus), site), key=lambda gpu: gpu in site.home):
            have = site.gpus[gpu].compute_capability
            cache = "fp8" if have >= FP8_CACHE and not ask.numbers.mla else "auto"
            if not known[have] or (cache == "auto" and not eager):
                continue
            repo, scheme, flag = max(known[have], key=lambda one: ORDER.index(family(one[1])))
            flight = default_batched_tokens(site.gpus[gpu].total)
            lean = replace(ask, scheme=scheme, eager=eager, kv_dtype=cache, max_num_seqs=seqs, batched_tokens=flight,
                           files=None if flag else mapping.files.get(repo))  # fmt: skip
            yield Option(repo, scheme, (gpu,), lean, flag)


def ways(mapping: Mapping, capability: float | None = None, start: str = "bf16") -> list[Way]:
    """Return (repository, scheme, flag): as it is, one per smaller kind, then made on load.

    `capability`: only what such a GPU runs, and makes where nothing smaller is published that it runs.
    """
    if capability is not None and capability < _BFLOAT16 and _NO_FLOAT16.search(mapping.repo or ""):
        return []
    ready = [(repo, scheme, "") for repo, scheme in published(mapping)]
    if capability is None:
        made = [(one.repo, one.scheme, one.flag) for least in (8.0, 7.5) for one in online(mapping, least)]
    else:
        ready = [one for one in ready if minimum_capability(one[1]) <= capability]
        smaller = any(family(one[1]) != "bf16" for one in ready)
        made = [] if smaller else [(one.repo, one.scheme, one.flag) for one in online(mapping, capability)]
    able = [*ready, *made]
    return [one for one in able if ORDER.index(family(one[1])) >= ORDER.index(start)] or [*ready[-1:], *made]


def incapable(mapping: Mapping) -> str:
    """Say what its weights need of a GPU, for one that lacks it."""
    if _NO_FLOAT16.search(mapping.repo or ""):
        return f"it refuses float16, and bfloat16 needs compute capability {_BFLOAT16:g}"
    needs = sorted({(floor(way), way[1]) for way in ways(mapping)})
    return "compute capability " + ", ".join(f"{least:g} is asked for {scheme} weights" for least, scheme in needs)


def floor(way: Way) -> float:
    """Return the compute capability that a way needs."""
    return (8.0 if way[2] == "fp8" else 7.5) if way[2] else minimum_capability(way[1])


def _unlike(gpus: list[str], site: Site) -> list[str]:
    """Return one of each kind of GPU, the first: what one cannot hold, its like cannot either."""
    seen = {(site.gpus[gpu].total, site.gpus[gpu].compute_capability, site.room(gpu), gpu in site.home): gpu
            for gpu in reversed(gpus)}  # fmt: skip
    return list(reversed(seen.values()))


def published(mapping: Mapping) -> list[tuple[str, str]]:
    """Return the repository as it is, then one per smaller kind of weights; the first named of each kind."""
    found = {family(mapping.scheme): (mapping.repo or "", mapping.scheme)}
    if mapping.confidence != "given":
        own = (mapping.repo or "").partition("/")[0]
        for repo, scheme in sorted(mapping.quantized, key=lambda item: trust(item[0], item[1], own)):
            found.setdefault(family(scheme), (repo, scheme))
    return [found[kind] for kind in ORDER if kind in found]


def _groups(able: list[str], site: Site, mapping: Mapping) -> list[tuple[str, ...]]:
    """Return single GPUs, the roomiest first, then sets of equal whole GPUs for tensor parallelism (never MIG)."""
    roomy = sorted(able, key=lambda gpu: -site.room(gpu))
    groups: list[tuple[str, ...]] = [(gpu,) for gpu in _unlike(roomy, site)]
    heads = mapping.numbers.heads or 0
    for size in (2, 4, 8):
        unsplit = [gpu for gpu in roomy if not site.gpus[gpu].mig]
        equal = [gpu for gpu in unsplit if site.gpus[gpu].total == site.gpus[unsplit[0]].total]
        if len(equal) >= size and heads and heads % size == 0:
            groups.append(tuple(sorted(equal[:size])))
    return groups
