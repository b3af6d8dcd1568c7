"""Which weights of a model a GPU can run, best first: published ones, else quantised on load, else made by hand."""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.decide.catalog import Catalog
from orchestrator.decide.mapping import Mapping
from orchestrator.decide.vram import family, minimum_capability

# Nearest first, for the kind of weights that Ollama has now: quality is kept before memory is saved.
_WISHES = {
    "bf16": ("bf16", "fp8", "int8", "int4", "nvfp4", "mxfp4"),
    "fp8": ("fp8", "int8", "bf16", "int4", "nvfp4", "mxfp4"),
    "int8": ("fp8", "int8", "bf16", "int4", "nvfp4", "mxfp4"),
    "int4": ("int4", "nvfp4", "fp8", "int8", "mxfp4", "bf16"),
    "nvfp4": ("nvfp4", "int4", "fp8", "int8", "mxfp4", "bf16"),
    "mxfp4": ("mxfp4", "int4", "nvfp4", "fp8", "int8", "bf16"),
}
_HOW = ("w4a16", "awq", "gptq-int4", "fp8-dynamic", "fp8")
_NATIVE_FP8, _WEIGHT_ONLY_FP8, _INT8 = 8.9, 8.0, 7.5      # compute capabilities
QUANTISED = re.compile(
    r"(?<![a-z0-9])(?:awq|gptq|fp8|fp4|nvfp4|mxfp[48]|int[48]|w[48]a(?:4|8|16)|[48]-?bit|bnb|quantized|quark|autoround)"
    r"(?![a-z0-9])", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way to serve a model. `flag`: the value of vLLM's --quantization, empty where its config says it.

    kind: published (the repository as it is), quantised or 16-bit (another repository), online (quantised on load).
    """

    repo: str
    scheme: str
    kind: str
    flag: str
    why: str


def alternatives(
    mapping: Mapping, capability: float, catalog: Catalog, quantization: str = ""
) -> tuple[Alternative, ...]:
    """Return what a GPU of this compute capability can run, best first; empty where nothing is left.

    `quantization`: what Ollama has now (Q4_K_M), from /api/show; without it the published weights come first.
    """
    if mapping.repo is None:
        return ()
    found = [_published(mapping), *_quantised(mapping)]
    usable = [one for one in found if capability >= minimum_capability(one.scheme)]
    if not any(family(one.scheme) in ("fp8", "int8") for one in usable):
        usable += online(mapping, capability)
    wishes = _WISHES[_kind_now(quantization, catalog)] if quantization else _WISHES["bf16"]
    own = mapping.repo.partition("/")[0]
    # What is made on load comes last within its kind.
    return tuple(sorted(usable, key=lambda one: (
        wishes.index(family(one.scheme)), one.kind == "online", *trust(one.repo, one.scheme, own))))  # fmt: skip


def _kind_now(quantization: str, catalog: Catalog) -> str:
    return family(catalog.quants.get(quantization.upper(), (None, "bf16"))[1])


def _published(mapping: Mapping) -> Alternative:
    return Alternative(mapping.repo or "", mapping.scheme, "published", "", "the weights as published")


def _quantised(mapping: Mapping) -> list[Alternative]:
    if mapping.confidence == "given":
        return []
    return [
        Alternative(repo, scheme, "16-bit" if family(scheme) == "bf16" else "quantised", "",
                    f"{scheme} weights of {repo.partition('/')[0]}")
        for repo, scheme in dict(mapping.quantized).items()
        if repo != mapping.repo
    ]  # fmt: skip


def online(mapping: Mapping, capability: float) -> list[Alternative]:
    """Return what vLLM makes of 16-bit weights while it loads them; they are downloaded whole all the same.

    Nothing for a repository whose name says that it is quantised already: vLLM refuses to quantise it again.
    """
    repo = mapping.repo or ""
    if not repo or family(mapping.scheme) != "bf16" or mapping.task == "embed" or QUANTISED.search(repo):
        return []
    if capability >= _NATIVE_FP8:
        return [Alternative(repo, "fp8", "online", "fp8", "16-bit weights, made 8-bit (FP8) on load")]
    if capability >= _WEIGHT_ONLY_FP8:
        why = "16-bit weights, made 8-bit (FP8) on load; this GPU keeps them so and computes in 16 bit"
        return [Alternative(repo, "fp8", "online", "fp8", why)]
    if capability < _INT8 or mapping.numbers.moe:     # whether it takes experts too is written nowhere
        return []
    return [Alternative(repo, "int8", "online", "int8_per_channel_weight_only", "16-bit weights, made 8-bit on load")]


def trust(repo: str, scheme: str, own: str) -> tuple[int, int]:
    """Order repositories of one kind: the author's own, then known quantisers; w4a16 before AWQ before GPTQ."""
    owner = repo.partition("/")[0]
    who = 0 if owner == own else 1 if owner in ("RedHatAI", "nvidia") else 2 if owner == "hugging-quants" else 3
    return who, _HOW.index(scheme) if scheme in _HOW else len(_HOW)


def others(
    mapping: Mapping, capability: float, catalog: Catalog, quantization: str, taken: tuple[str, str], most: int = 3
) -> str:
    """Say which other weights such a GPU runs, nearest to what Ollama has; empty where there are none.

    `taken`: repository and flag of those that were chosen.
    """
    found = [one for one in alternatives(mapping, capability, catalog, quantization) if (one.repo, one.flag) != taken]
    if not found:
        return ""
    named = [f"{one.repo} ({f'--quantization {one.flag}' if one.flag else one.scheme})" for one in found[:most]]
    nearest = f", nearest to Ollama's {quantization} first" if quantization else ""
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return f"weights it could also run, if they fit{nearest}: {', '.join(named)}{more}"
