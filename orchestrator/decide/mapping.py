"""Which repository on the Hub holds the weights of an installed Ollama model; says so when it does not know."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from orchestrator.decide import tags
from orchestrator.decide.catalog import Catalog, Entry, Found, Numbers
from orchestrator.decide.dimensions import disagreements, gguf_numbers, installed, similar
from orchestrator.decide.parsers import parsers
from orchestrator.decide.provenance import provenance
from orchestrator.decide.shapes import Shape
from orchestrator.decide.shaping import shape_for
from orchestrator.facts import Model

__all__ = ["Mapping", "disagreements", "gguf_numbers", "map_model"]

# Formats that vLLM no longer loads: GGUF and bitsandbytes left its core, exl2 and MLX were never in it.
_FOREIGN = re.compile(
    r"[-_.](?:i1-)?gguf(?:$|[-_.])|[-_.](?:bnb|unsloth-bnb)[-_.]?(?:4|8)bit|[-_.]exl[23](?:$|[-_.])|[-_.]mlx(?:$|[-_.])"
    r"|^mlx-community/",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Mapping:
    """Where a model goes. No `repo`: it stays on Ollama, and `reasons` say why.

    confidence: given (by the spec), exact, likely, guess, none.
    """

    model: str
    repo: str | None
    confidence: str
    kind: str = "generate"
    reasons: tuple[str, ...] = ()
    numbers: Numbers = field(default_factory=Numbers)
    scheme: str = "bf16"
    quantized: tuple[tuple[str, str], ...] = ()
    candidates: tuple[str, ...] = ()
    gated: bool = False
    gate_unsure: bool = False
    tool_parser: str | None = None
    reasoning_parser: str | None = None
    trust_remote_code: bool = False
    local: bool = False                 # `repo` is a directory of this machine
    licence: str = ""                   # as the installed file states it
    gate: str = ""                      # what has to be done before the download, if anything
    shape: Shape | None = None          # layer by layer, where something tells
    closed: frozenset[str] = frozenset()    # repositories that were seen to need a token
    files: dict[str, int] = field(default_factory=dict)     # repository -> bytes of its weights, where they were seen

    @property
    def stays(self) -> bool:
        return self.repo is None

    @property
    def task(self) -> str:
        return "embed" if self.kind == "embedding" else "generate"


def map_model(model: Model, catalog: Catalog, given: str | None = None) -> Mapping:
    """Return where a model's weights are on the Hub, with the reasons; `given` (from the spec) wins."""
    found = _mapped(model, catalog, given)
    return replace(found, shape=shape_for(found.repo, catalog, (model,))) if found.repo else found


def _mapped(model: Model, catalog: Catalog, given: str | None) -> Mapping:
    kind = _kind(model)
    start = Mapping(
        model.name, None, "none", kind, numbers=installed(model), licence=_licence(model)
    )
    if given:
        return _given(start, model, catalog, given)
    if model.remote_host or tags.is_cloud(model.name):
        return replace(start, reasons=("a cloud model: its weights are not here",))
    if has_adapter(model):
        return replace(start, reasons=(_ADAPTER,))
    gone = _removed(model, catalog)
    if gone:
        return replace(start, reasons=(gone,))
    found, why = provenance(model, catalog)
    if found is None:
        return replace(start, candidates=_candidates(model, catalog), reasons=why)
    return _checked(start, model, catalog, found, why)


_ADAPTER = (
    "its Modelfile has an ADAPTER: a GGUF adapter alone cannot be loaded by vLLM; name its PEFT directory under "
    "engines.NAME.adapters, and that adapter under routes.MODEL.adapter"
)


def has_adapter(model: Model) -> bool:
    """Tell whether a Modelfile adds a LoRA adapter, which is GGUF then."""
    told = str(model.details.get("modelfile") or "")
    return bool(model.details.get("adapter") or re.search(r"^\s*ADAPTER\s", told, re.MULTILINE | re.IGNORECASE))


def _removed(model: Model, catalog: Catalog) -> str:
    """Say so when every class of this architecture has left vLLM."""
    arch = str(model.architecture.get("general.architecture", ""))
    classes = catalog.architectures.get(arch, {}).get("hf_classes", ())
    gone = bool(classes) and all(one in catalog.removed for one in classes)
    return f"vLLM {catalog.vllm} cannot serve {', '.join(classes)}: it stays on Ollama" if gone else ""


def _licence(model: Model) -> str:
    told = model.architecture.get("general.license.name") or model.architecture.get("general.license")
    link = model.architecture.get("general.license.link")
    return " ".join(str(part) for part in (told, f"({link})" if link else "") if part)


def _kind(model: Model) -> str:
    arch = str(model.architecture.get("general.architecture", ""))
    pooling = any(key.endswith(".pooling_type") for key in model.architecture)
    known = model.kind == "embedding" or arch in ("bert", "nomic-bert", "nomic-bert-moe", "gemma-embedding")
    return "embedding" if known or pooling else "generate"


def _checked(
    start: Mapping, model: Model, catalog: Catalog, found: Found, why: tuple[str, ...]
) -> Mapping:
    """Cross-check the name with the file's own dimensions: library tags move, old pulls stay."""
    if not found.sized:
        return _by_size(start, model, catalog, found, why)
    wrong = disagreements(start.numbers, found.entry.numbers)
    if wrong:
        others = [e for e in catalog.named(found.entry.name) if not disagreements(start.numbers, e.numbers)]
        same = [e for e in others if similar(e.numbers.params_b, start.numbers.params_b)]
        refused = f"{found.repo} does not match the installed file: {', '.join(wrong)}"
        if len(same) != 1:
            names = tuple(e.repo for e in (same or others)[:3])
            return replace(start, reasons=(*why, refused), candidates=names)
        found, why = Found(same[0], "likely", same[0].repo, "dimensions"), (*why, refused, "its sibling does match")
    if not found.entry.tried:
        unsure = f"nobody says whether vLLM {catalog.vllm} serves {found.repo}; to try it, name it in migrate.yaml"
        return replace(start, reasons=(*why, unsure), candidates=(found.repo,))
    if not found.entry.supported:
        what = found.entry.architecture or found.repo
        return replace(start, reasons=(*why, f"vLLM {catalog.vllm} cannot serve {what}"))
    if found.confidence == "guess":
        return replace(start, reasons=why, candidates=(found.repo,))
    return _take(start, model, catalog, found.entry, found.repo, found.confidence, why)


def _by_size(
    start: Mapping, model: Model, catalog: Catalog, found: Found, why: tuple[str, ...]
) -> Mapping:
    """A name that tells no size stands for the one entry that has the installed file's dimensions, else for none."""
    ours = start.numbers
    same = [one for one in catalog.named(found.entry.name)
            if ours.layers and ours.hidden and one.numbers.layers and not disagreements(ours, one.numbers)
            and similar(one.numbers.params_b, ours.params_b)]  # fmt: skip
    if len(same) != 1:
        told = "the installed file tells no size" if not ours.layers else "none of them has the installed file's size"
        return replace(start, reasons=(*why, f"{told}; name the repository in migrate.yaml"))
    told = f"the installed file has the dimensions of {same[0].repo}"
    return _checked(start, model, catalog, Found(same[0], "likely", same[0].repo, told), (*why, told))


def _take(
    start: Mapping, model: Model, catalog: Catalog, entry: Entry, repo: str, confidence: str, why: tuple[str, ...]
) -> Mapping:
    notes = [*why]
    if not entry.paired:
        notes.append("the pairing is inferred from the name")
    if entry.implementation == "transformers-backend":
        notes.append("vLLM runs it through the Transformers backend: slower, with fewer features")
    tool, reasoning, said = parsers(model, entry, catalog)
    notes += said
    gated = _gated(entry, repo)
    schemes = entry.repositories()
    instruct = repo != entry.base_repo
    return replace(
        start,
        repo=repo,
        confidence=confidence,
        kind="embedding" if entry.task == "embed" else start.kind,
        reasons=tuple(notes),
        numbers=merged(entry.numbers, start.numbers),
        scheme=schemes.get(repo, entry.numbers.native),
        quantized=entry.quantized if instruct and repo == entry.repo else (),
        gated=gated,
        gate_unsure=entry.gate_unsure,
        tool_parser=tool,
        reasoning_parser=reasoning,
        gate=_gate(repo, unsure=entry.gate_unsure) if gated else "",
        trust_remote_code=entry.trust_remote_code,
    )


def _gated(entry: Entry, repo: str) -> bool:
    """Tell whether a repository needs a token; mirrors of other owners are usually open."""
    return entry.gated and repo.partition("/")[0].lower() == entry.repo.partition("/")[0].lower()


def _gate(repo: str, *, unsure: bool) -> str:
    may = "may need" if unsure else "needs"
    return f"{may} its licence accepted at https://huggingface.co/{repo}, by the account whose token is in HF_TOKEN"


def merged(first: Numbers, second: Numbers) -> Numbers:
    """Return the first shape, with the second's where the first does not know."""
    gaps = ("params_b", "layers", "heads", "kv_heads", "head_dim", "hidden", "intermediate", "vocab", "kv_token",
            "max_context", "experts", "tied")  # fmt: skip
    return replace(first, **{key: getattr(second, key) for key in gaps if getattr(first, key) is None})


def is_local(repo: str) -> bool:
    """Tell whether a mapping is a directory of this machine: a repository is owner/name, without a leading dot."""
    return repo.startswith(("/", "./", "../", "~")) or repo in (".", "..") or repo.count("/") > 1


def _given(start: Mapping, model: Model, catalog: Catalog, repo: str) -> Mapping:
    foreign = _FOREIGN.search(repo)
    if foreign:
        form = foreign[0].strip("-_./").lower()
        lost = f"migrate.yaml names {repo}: vLLM {catalog.vllm} does not load that format ({form}); it stays on Ollama"
        return replace(start, reasons=(lost,))
    known = catalog.by_repo(repo)
    if known is None:
        gone = _removed(model, catalog)
        # A parser whose words the tokenizer lacks stops vLLM: what the Modelfile says counts, what the architecture
        # suggests is only named.
        tool, reasoning, said = parsers(replace(model, architecture={}), None, catalog)
        guess = parsers(model, None, catalog)
        keys = [f"{key}: {one}" for key, one, has in (("tool_call_parser", guess[0], tool),
                ("reasoning_parser", guess[1], reasoning)) if one and not has]  # fmt: skip
        named = [f"perhaps {' and '.join(keys)}, if its tokenizer has the words for it; say so in migrate.yaml"]
        why = ("migrate.yaml names it", *([gone] if gone else []), *said, *(named if keys else []))
        return replace(start, repo=repo, confidence="given", reasons=why, tool_parser=tool,
                       reasoning_parser=reasoning, local=is_local(repo))  # fmt: skip
    entry, scheme = known
    if entry.tried and not entry.supported:
        what = entry.architecture or repo
        return replace(start, reasons=(f"migrate.yaml names {repo}, and vLLM {catalog.vllm} cannot serve {what}",))
    wrong = disagreements(start.numbers, entry.numbers)
    why = ("migrate.yaml names it", *(f"but its {difference}" for difference in wrong))
    taken = _take(start, model, catalog, entry, repo, "given", why)
    return replace(taken, scheme=scheme, gated=_gated(entry, repo))


def _candidates(model: Model, catalog: Catalog) -> tuple[str, ...]:
    """Return repositories of the same shape, for the user to choose from."""
    ours = gguf_numbers(model.architecture)
    if not ours.layers or not ours.hidden:
        return ()
    same = [
        entry.repo
        for entry in catalog.entries
        if (entry.numbers.layers, entry.numbers.hidden) == (ours.layers, ours.hidden)
        and entry.numbers.kv_heads == ours.kv_heads
        and similar(entry.numbers.params_b, ours.params_b)
    ]
    return tuple(dict.fromkeys(same))[:3]
