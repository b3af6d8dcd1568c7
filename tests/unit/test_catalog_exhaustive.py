"""Every name of the catalogue in every form of the tag grammar, and every dimension changed once."""

from __future__ import annotations

import itertools

import pytest

from orchestrator.decide.catalog import Entry, load
from orchestrator.decide.mapping import map_model
from orchestrator.decide.tags import parse
from orchestrator.facts import Model

CATALOG = load()
QUANTS = ("q4_K_M", "q4_0", "q8_0", "q2_K", "q3_K_L", "q5_1", "q6_K", "fp16", "bf16", "iq4_xs", "mxfp4", "nvfp4", "fp8")
PREFIXES = ("", "library/", "registry.ollama.ai/library/", "REGISTRY.Ollama.ai/Library/", "  ")
DIGEST = "@sha256:" + "ab" * 32
NAMES = [(entry, tag) for entry in CATALOG.entries for tag in entry.tags]


def _label(pair: tuple[Entry, str]) -> str:
    return f"{pair[0].name}:{pair[1]}"


@pytest.mark.parametrize("pair", NAMES, ids=_label)
def test_a_name_resolves_from_every_form(pair: tuple[Entry, str]) -> None:
    entry, tag = pair
    for prefix, digest in itertools.product(PREFIXES, ("", DIGEST)):
        for spelt in (f"{entry.name}:{tag}", f"{entry.name}:{tag}".upper()):
            found = CATALOG.find(f"{prefix}{spelt}{digest}")
            assert found is not None, spelt
            assert (found.repo, found.confidence) == (entry.repo, "exact"), spelt


@pytest.mark.parametrize("pair", NAMES, ids=_label)
def test_a_quantisation_never_selects_another_repository(pair: tuple[Entry, str]) -> None:
    entry, tag = pair
    asked = parse(f"{entry.name}:{tag}")
    siblings = {e.repo for e in CATALOG.named(entry.name) if {parse(f"x:{t}").size for t in e.tags} & {asked.size}}
    for quant in QUANTS:
        spelt = f"{entry.name}:{asked.plain}-{quant}" if asked.plain else f"{entry.name}:{quant}"
        found = CATALOG.find(spelt)
        assert found is not None, spelt
        assert found.confidence != "guess", spelt
        # Some sizes have two generations, told apart by whether a quantisation is named (qwen3:4b-q4_K_M).
        assert found.repo == entry.repo or (len(siblings) > 1 and found.repo in siblings), spelt


@pytest.mark.parametrize("entry", CATALOG.entries, ids=lambda e: f"{e.name}:{e.tags[0]}")
def test_size_and_variant_resolve(entry: Entry) -> None:
    asked = parse(f"{entry.name}:{entry.tags[0]}")
    for variant in ("instruct", "chat", "it", "it-qat"):
        found = CATALOG.find(f"{entry.name}:{asked.plain and asked.plain + '-'}{variant}-q4_K_M")
        assert found is not None
        assert found.entry.name == entry.name
        assert found.confidence != "guess"
    if entry.base_repo and asked.size and len(CATALOG.named(entry.name)) == 1:
        for variant in ("text", "base"):
            found = CATALOG.find(f"{entry.name}:{asked.size}-{variant}-q8_0")
            assert found is not None
            assert found.repo == entry.base_repo


def test_every_family_resolves_without_a_tag() -> None:
    for name in {entry.name for entry in CATALOG.entries}:
        bare, latest = CATALOG.find(name), CATALOG.find(f"{name.upper()}:LATEST{DIGEST}")
        assert bare is not None, name
        assert latest is not None, name
        assert bare.repo == latest.repo


def shown(entry: Entry, arch: str = "test") -> dict:
    """What /api/show would say of a file with exactly this shape."""
    n = entry.numbers
    info = {
        "general.architecture": arch, "general.parameter_count": n.params_b and n.params_b * 1e9,
        f"{arch}.block_count": n.layers, f"{arch}.embedding_length": n.hidden,
        f"{arch}.attention.head_count": n.heads, f"{arch}.attention.head_count_kv": n.kv_heads,
        f"{arch}.attention.key_length": n.head_dim, f"{arch}.vocab_size": n.vocab, f"{arch}.expert_count": n.experts,
        f"{arch}.feed_forward_length": n.intermediate, f"{arch}.context_length": n.max_context,
    }  # fmt: skip
    if n.mla:
        info |= {f"{arch}.attention.kv_lora_rank": 512, f"{arch}.rope.dimension_count": 64}
    return {key: value for key, value in info.items() if value is not None}


MEASURED = [e for e in CATALOG.entries if e.measured and e.supported]


@pytest.mark.parametrize("entry", MEASURED, ids=lambda e: f"{e.name}:{e.tags[0]}")
def test_the_right_shape_is_taken_and_every_changed_dimension_is_not(entry: Entry) -> None:
    name, info = f"{entry.name}:{entry.tags[0]}", shown(entry)
    assert map_model(Model(name, architecture=info), CATALOG).repo == entry.repo
    skipped = ["feed_forward_length"] if entry.numbers.moe or entry.numbers.hybrid else []
    skipped += ["head_count_kv", "key_length", "feed_forward_length"] if entry.numbers.mla else []
    changed = [
        key for key in info
        if not key.startswith("general.") and key.rsplit(".", 1)[-1] not in (*skipped, "context_length", "dimension_count")
    ]  # fmt: skip
    assert len(changed) >= 3
    for key, change in itertools.product(changed, (1, 7, "twice")):
        value = info[key] * 2 if change == "twice" else info[key] + change
        found = map_model(Model(name, architecture=info | {key: value}), CATALOG)
        said = "; ".join(found.reasons)
        assert found.repo != entry.repo, (key, value)
        assert f"{info[key]} there" in said or "latent" in said, (key, said)
        assert f"{value} here" in said or "latent" in said, (key, said)
