"""The packaged catalogue: Ollama's library names and their Hugging Face repositories, as data."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from orchestrator.decide import tags

_SAME_AS_NONE = {"instruct", "chat", "it", "qat"}
_BASE = {"text", "base", "code"}


@dataclass(frozen=True, slots=True)
class Numbers:
    """The shape of a model; None where nobody has said. kv_token is in bytes at 16 bit, all layers."""

    params_b: float | None = None
    layers: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    hidden: int | None = None
    intermediate: int | None = None
    vocab: int | None = None
    kv_token: int | None = None
    max_context: int | None = None
    native: str = "bf16"        # scheme of the repository as published: bf16, fp8 or mxfp4
    mla: bool = False           # one latent vector per token, on every tensor-parallel rank
    vision: bool = False
    experts: int | None = None
    hybrid: bool = False        # only some layers keep a cache
    tied: bool | None = None    # the head is the table of embeddings

    @property
    def moe(self) -> bool:
        return bool(self.experts)


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of Ollama's library and where its weights are published."""

    name: str
    tags: tuple[str, ...]
    repo: str
    task: str
    numbers: Numbers
    supported: bool = True
    implementation: str = ""
    architecture: str = ""
    gated: bool = False
    gate_unsure: bool = False
    tool_parser: str | None = None
    reasoning_parser: str | None = None
    quantized: tuple[tuple[str, str], ...] = ()     # (repository, scheme)
    base_repo: str | None = None
    aliases: tuple[str, ...] = ()
    trust_remote_code: bool = False
    paired: bool = True         # the pairing is stated somewhere, not inferred from the name
    tried: bool = True          # somebody says whether vLLM serves it
    measured: bool = True       # the numbers come from the model's own config.json
    attention: dict[str, int] = field(default_factory=dict)     # see data/catalog.schema.json

    def repositories(self) -> dict[str, str]:
        """Return every repository of this model with its scheme."""
        same = [self.repo, *self.aliases, *([self.base_repo] if self.base_repo else [])]
        return dict.fromkeys(same, self.numbers.native) | dict(self.quantized)


@dataclass(frozen=True, slots=True)
class Found:
    """What the catalogue says of a name. confidence: exact, likely, or guess."""

    entry: Entry
    confidence: str
    repo: str
    reason: str
    sized: bool = True      # the name tells the size; else only the installed file does


@dataclass(frozen=True, slots=True)
class Catalog:
    source: str
    vllm: str
    entries: tuple[Entry, ...]
    families: dict[str, tuple[str | None, str | None]]
    quants: dict[str, tuple[float | None, str]]     # GGUF quantisation: bits per weight, nearest scheme
    architectures: dict[str, dict[str, Any]]
    tool_parsers: frozenset[str]
    reasoning_parsers: frozenset[str]
    removed: frozenset[str] = frozenset()           # classes that vLLM once had
    parser_hints: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)    # Ollama PARSER -> ours

    def named(self, name: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.name == name]

    def by_repo(self, repo: str) -> tuple[Entry, str] | None:
        """Return the entry that a repository belongs to, and the repository's scheme."""
        wanted = repo.lower()
        for entry in self.entries:
            for known, scheme in entry.repositories().items():
                if known.lower() == wanted:
                    return entry, scheme
        return None

    def find(self, name: str) -> Found | None:
        """Return what a name of Ollama's library stands for; None for other hosts, users and unknown names."""
        asked = tags.parse(name)
        entries = self.named(asked.model)
        if "/" in asked.model or not entries:
            return None
        if asked.tag == "latest":
            default = self.families.get(asked.model, (None, None))[0] or entries[0].tags[0]
            asked = tags.parse(f"{asked.model}:{default}")
        exact = next((e for e in entries if asked.tag in (t.lower() for t in e.tags)), None)
        if exact:
            return Found(exact, "exact", exact.repo, f"the catalogue has {asked.model}:{asked.tag}")
        found = self._nearest(asked, entries)
        if found is None and tags.parse(name).tag == "latest":
            has = ", ".join(f"{asked.model}:{tag}" for one in entries for tag in one.tags[:1])
            reason = f"{asked.model} without a tag is {asked.model}:{asked.tag}, which the catalogue does not have"
            return Found(entries[0], "guess", entries[0].repo, f"{reason}; it has {has}", sized=False)
        return found

    def _nearest(self, asked: tags.Tag, entries: list[Entry]) -> Found | None:
        plain = asked.plain
        if plain and not asked.size:
            candidates = [e for e in entries if plain in (t.lower() for t in e.tags)] or entries
        elif not plain:
            default = (self.families.get(asked.model, (None, None))[0] or "").lower()
            candidates = [e for e in entries if default in e.tags] or entries[:1]
        else:
            candidates = [e for e in entries if any(tags.size_of(t) == asked.size for t in e.tags)]
        if not candidates:
            return None
        best = max(candidates, key=lambda entry: _score(entry, asked.words, quantised=bool(asked.quant)))
        return _judge(best, asked.model, asked.tag, asked.words)


def _score(entry: Entry, words: frozenset[str], *, quantised: bool) -> float:
    text = f"{entry.repo} {' '.join(entry.tags)}".lower()
    own = min(len(tags.words_of(tag) - words) for tag in entry.tags)
    has_quant = any(tags.has_quant(tag) for tag in entry.tags)
    return 2 * sum(word in text for word in words) - own + (0.5 if has_quant == quantised else 0)


def _judge(entry: Entry, model: str, tag: str, words: frozenset[str]) -> Found:
    if words & _BASE and entry.base_repo:
        reason = f"{model}:{tag} is the base model, which has no chat template"
        return Found(entry, "likely", entry.base_repo, reason)
    text = f"{entry.repo} {' '.join(entry.tags)}".lower()
    strange = sorted(word for word in words - _SAME_AS_NONE if word not in text)
    if strange:
        reason = f"the catalogue does not know what {' '.join(strange)} means in {model}:{tag}"
        return Found(entry, "guess", entry.repo, reason)
    return Found(entry, "likely", entry.repo, f"{model}:{tag} is {model}:{entry.tags[0]} but for its quantisation")


@cache
def model_classes() -> tuple[frozenset[str], frozenset[str]]:
    """Return the classes of config.json that the pinned vLLM has itself, and those it leaves to Transformers."""
    data = json.loads(resources.files("orchestrator").joinpath("data/vllm-models.json").read_text(encoding="utf-8"))
    return frozenset(data["native"]), frozenset(data["transformers"])


@cache
def without_lora() -> frozenset[str]:
    """Return the classes of config.json for which the pinned vLLM loads no LoRA adapter."""
    data = json.loads(resources.files("orchestrator").joinpath("data/vllm-models.json").read_text(encoding="utf-8"))
    return frozenset(data["no_lora"])


@cache
def load() -> Catalog:
    """Return the packaged catalogue; a few milliseconds, once."""
    data = json.loads(resources.files("orchestrator").joinpath("data/catalog.json").read_text(encoding="utf-8"))
    return Catalog(
        source=data["source"],
        vllm=data["vllm"],
        entries=tuple(_entry(item) for item in data["models"]),
        families={name: (tag, quant) for name, (tag, quant) in data["families"].items()},
        quants={name: (bits, nearest) for name, (bits, nearest) in data["quants"].items()},
        architectures=data["architectures"],
        tool_parsers=frozenset(data["tool_parsers"]),
        reasoning_parsers=frozenset(data["reasoning_parsers"]),
        removed=frozenset(data["removed"]),
        parser_hints={name: (tool, reasoning) for name, (tool, reasoning) in data["parser_hints"].items()},
    )


def _kv_token(item: dict[str, Any]) -> int | None:
    """Return the cache per token; decoders that embed keep one too, encoders do not."""
    stated: int | None = item.get("kv_bytes_per_token_16bit")
    decoder = item["task"] == "embed" and item.get("architecture", "").endswith("ForCausalLM")
    return 4 * int(item["layers"]) * int(item["kv_heads"]) * int(item["head_dim"]) if decoder else stated


def _tied(item: dict[str, Any]) -> bool | None:
    """Return whether the parameters add up with one table of embeddings; None where that cannot be told."""
    if item.get("architecture", "").startswith("Gemma"):
        return True
    keys = ("layers", "heads", "kv_heads", "head_dim", "hidden", "intermediate", "vocab", "params_b")
    if item["task"] == "vision" or item.get("experts") or not all(item.get(key) for key in keys):
        return None
    layers, heads, kv_heads, dim, hidden, inner, vocab = (int(item[key]) for key in keys[:-1])
    body = layers * hidden * (2 * dim * (heads + kv_heads) + 3 * inner)
    apart = [abs(item["params_b"] * 1e9 - body - copies * vocab * hidden) for copies in (1, 2)]
    return apart[0] < apart[1] if min(apart) < 0.02 * item["params_b"] * 1e9 else None


def _entry(item: dict[str, Any]) -> Entry:
    dtype = str(item.get("dtype", "bfloat16"))
    numbers = Numbers(
        params_b=item.get("params_b"),
        layers=item.get("layers"),
        heads=item.get("heads"),
        kv_heads=item.get("kv_heads"),
        head_dim=item.get("head_dim"),
        hidden=item.get("hidden"),
        intermediate=item.get("intermediate"),
        vocab=item.get("vocab"),
        kv_token=_kv_token(item),
        max_context=item.get("max_context"),
        native="fp8" if dtype.startswith("fp8") else "mxfp4" if dtype.startswith("mxfp4") else "bf16",
        mla="MLA" in item.get("kv_note", ""),
        vision=item["task"] == "vision",
        experts=item.get("experts"),
        hybrid=bool(item.get("hybrid")),
        tied=_tied(item),
    )
    return Entry(
        name=item["name"],
        tags=tuple(item["tags"]),
        repo=item["hf"],
        task=item["task"],
        numbers=numbers,
        supported=bool(item.get("vllm_supported")),
        implementation=item.get("vllm_impl", ""),
        architecture=item.get("architecture", ""),
        gated=item.get("gated") in (True, "maybe"),
        gate_unsure=item.get("gated") == "maybe",
        tool_parser=item.get("tool_parser"),
        reasoning_parser=item.get("reasoning_parser"),
        quantized=tuple((repo, scheme) for repo, scheme in item["quantized"]),
        base_repo=item.get("base_repo"),
        aliases=tuple(item.get("aliases", ())),
        trust_remote_code=item.get("trust_remote_code", False),
        paired=item["verified"].get("pairing") is True,
        tried=item.get("vllm_supported") is not None,
        measured=item["verified"].get("numbers") is True,
        attention=item.get("attention", {}),
    )
