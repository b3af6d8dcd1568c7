"""Which repository on the Hub holds the weights of an installed Ollama model; says so when it does not know."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.decide.catalog import Catalog, Entry, Found, Numbers
from orchestrator.facts import Model
from orchestrator.names import canonical

_HUB = re.compile(r"^(?:hf\.co|huggingface\.co)/(?P<repo>[^/]+/[^:]+)(?::.*)?$", re.IGNORECASE)
_HUB_URL = re.compile(r"^https?://(?:hf\.co|huggingface\.co)/(?P<repo>[^/]+/[^/]+)/?$", re.IGNORECASE)
_GGUF = re.compile(r"[-_.](?:i1-)?gguf$", re.IGNORECASE)


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

    @property
    def stays(self) -> bool:
        return self.repo is None

    @property
    def task(self) -> str:
        return "embed" if self.kind == "embedding" else "generate"


def map_model(model: Model, catalog: Catalog, given: str | None = None) -> Mapping:
    """Return where a model's weights are on the Hub, with the reasons; `given` (from the spec) wins."""
    kind = _kind(model)
    start = Mapping(model.name, None, "none", kind, numbers=gguf_numbers(model.architecture))
    if given:
        return _given(start, model, catalog, given)
    if model.remote_host or re.search(r"(?:^|[-:])cloud$", canonical(model.name)):
        return replace(start, reasons=("a cloud model: its weights are not here",))
    found, why = _provenance(model, catalog)
    if found is None:
        return replace(start, candidates=_candidates(model, catalog), reasons=why)
    return _checked(start, model, catalog, found, why)


def gguf_numbers(info: dict[str, Any]) -> Numbers:
    """Return a model's shape from the GGUF keys that /api/show reports."""
    arch = str(info.get("general.architecture", ""))

    def number(key: str) -> int | None:
        value = info.get(f"{arch}.{key}")
        return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    layers, hidden, heads = number("block_count"), number("embedding_length"), number("attention.head_count")
    kv_heads = number("attention.head_count_kv")
    head_dim = number("attention.key_length") or (hidden // heads if hidden and heads else None)
    latent = number("attention.kv_lora_rank")
    count = info.get("general.parameter_count")
    kv = 4 * layers * kv_heads * head_dim if layers and kv_heads and head_dim else None
    if latent and layers:
        kv = 2 * layers * (latent + (number("rope.dimension_count") or 64))
    return Numbers(
        params_b=count / 1e9 if isinstance(count, int | float) else None,
        layers=layers - (number("nextn_predict_layers") or 0) if layers else None,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        hidden=hidden,
        intermediate=number("feed_forward_length"),
        vocab=number("vocab_size"),
        kv_token=kv,
        max_context=number("context_length"),
        mla=latent is not None,
        vision=number("vision.block_count") is not None,
    )


def disagreements(ours: Numbers, theirs: Numbers) -> list[str]:
    """Return the dimensions in which the installed file and the repository differ, with both numbers."""
    names = {"layers": "layers", "hidden": "hidden size"}
    # With MLA or hybrid layers GGUF counts KV heads in its own way.
    full = theirs.kv_token and theirs.layers and theirs.kv_heads and theirs.head_dim
    if full and theirs.kv_token == 4 * theirs.layers * theirs.kv_heads * theirs.head_dim:  # type: ignore[operator]
        names["kv_heads"] = "KV heads"
    pairs = [(label, getattr(ours, key), getattr(theirs, key)) for key, label in names.items()]
    return [f"{label} {a} here, {b} there" for label, a, b in pairs if a and b and a != b]


def _kind(model: Model) -> str:
    arch = str(model.architecture.get("general.architecture", ""))
    pooling = any(key.endswith(".pooling_type") for key in model.architecture)
    known = model.kind == "embedding" or arch in ("bert", "nomic-bert", "nomic-bert-moe", "gemma-embedding")
    return "embedding" if known or pooling else "generate"


def _provenance(model: Model, catalog: Catalog) -> tuple[Found | None, tuple[str, ...]]:
    hub = _HUB.match(model.name)
    if hub:
        return _from_hub(_GGUF.sub("", hub["repo"]), f"its name says {hub['repo']}", catalog)
    for name in (model.name, model.parent):
        found = catalog.find(name) if name else None
        if found:
            via = f"made from {model.parent}; " if name == model.parent else ""
            return found, (via + found.reason,)
    url = _HUB_URL.match(str(model.architecture.get("general.base_model.0.repo_url", "")))
    if url:
        return _from_hub(url["repo"], f"its file says that it comes from {url['repo']}", catalog)
    return None, ("not in the catalogue; name the repository in migrate.yaml",)


def _from_hub(repo: str, why: str, catalog: Catalog) -> tuple[Found | None, tuple[str, ...]]:
    known = catalog.by_repo(repo)
    if known is None:
        # The uploader of a GGUF file is seldom the author of the weights: match by name, never guess an owner.
        last = repo.rsplit("/", 1)[-1].lower()
        same = [e for e in catalog.entries if last in {r.rsplit("/", 1)[-1].lower() for r in (e.repo, *e.aliases)}]
        known = (same[0], same[0].numbers.native) if len({e.repo for e in same}) == 1 else None
    if known is None:
        return None, (f"{why}, which the catalogue does not know; name the repository in migrate.yaml",)
    return Found(known[0], "likely", known[0].repo, why), (why,)


def _checked(
    start: Mapping, model: Model, catalog: Catalog, found: Found, why: tuple[str, ...]
) -> Mapping:
    """Cross-check the name with the file's own dimensions: library tags move, old pulls stay."""
    wrong = disagreements(start.numbers, found.entry.numbers)
    if wrong:
        others = [e for e in catalog.named(found.entry.name) if not disagreements(start.numbers, e.numbers)]
        same = [e for e in others if _similar(e.numbers.params_b, start.numbers.params_b)]
        refused = f"{found.repo} does not match the installed file: {', '.join(wrong)}"
        if len(same) != 1:
            names = tuple(e.repo for e in (same or others)[:3])
            return replace(start, reasons=(*why, refused), candidates=names)
        found, why = Found(same[0], "likely", same[0].repo, "dimensions"), (*why, refused, "its sibling does match")
    if not found.entry.supported:
        what = found.entry.architecture or found.repo
        return replace(start, reasons=(*why, f"vLLM {catalog.vllm} cannot serve {what}"))
    if found.confidence == "guess":
        return replace(start, reasons=why, candidates=(found.repo,))
    return _take(start, model, found.entry, found.repo, found.confidence, why)


def _similar(one: float | None, other: float | None) -> bool:
    return not one or not other or abs(one - other) < 0.15 * other


def _take(
    start: Mapping, model: Model, entry: Entry, repo: str, confidence: str, why: tuple[str, ...]
) -> Mapping:
    notes = [*why]
    if not entry.paired:
        notes.append("the pairing is inferred from the name")
    if entry.implementation == "transformers-backend":
        notes.append("vLLM runs it through the Transformers backend: slower, with fewer features")
    schemes = entry.repositories()
    instruct = repo != entry.base_repo
    return replace(
        start,
        repo=repo,
        confidence=confidence,
        kind="embedding" if entry.task == "embed" else start.kind,
        reasons=tuple(notes),
        numbers=_merged(entry.numbers, start.numbers),
        scheme=schemes.get(repo, entry.numbers.native),
        quantized=entry.quantized if instruct and repo == entry.repo else (),
        gated=_gated(entry, repo),
        gate_unsure=entry.gate_unsure,
        tool_parser=entry.tool_parser if _can(model, "tools") else None,
        reasoning_parser=entry.reasoning_parser if _can(model, "thinking") else None,
        trust_remote_code=entry.trust_remote_code,
    )


def _gated(entry: Entry, repo: str) -> bool:
    """Tell whether a repository needs a token; mirrors of other owners are usually open."""
    return entry.gated and repo.partition("/")[0].lower() == entry.repo.partition("/")[0].lower()


def _can(model: Model, capability: str) -> bool:
    return not model.capabilities or capability in model.capabilities


def _merged(first: Numbers, second: Numbers) -> Numbers:
    gaps = ("params_b", "layers", "heads", "kv_heads", "head_dim", "hidden", "intermediate", "vocab", "kv_token",
            "max_context")  # fmt: skip
    return replace(first, **{key: getattr(second, key) for key in gaps if getattr(first, key) is None})


def _given(start: Mapping, model: Model, catalog: Catalog, repo: str) -> Mapping:
    known = catalog.by_repo(repo)
    if known is None:
        return replace(start, repo=repo, confidence="given", reasons=("migrate.yaml names it",))
    entry, scheme = known
    wrong = disagreements(start.numbers, entry.numbers)
    why = ("migrate.yaml names it", *(f"but its {difference}" for difference in wrong))
    taken = _take(start, model, entry, repo, "given", why)
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
        and _similar(entry.numbers.params_b, ours.params_b)
    ]
    return tuple(dict.fromkeys(same))[:3]
