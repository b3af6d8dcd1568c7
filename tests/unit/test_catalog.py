from __future__ import annotations

import re

import pytest

from orchestrator.decide import catalog
from orchestrator.decide.vram import family

CATALOG = catalog.load()


def test_every_name_and_tag_finds_its_entry() -> None:
    for entry in CATALOG.entries:
        for tag in entry.tags:
            found = CATALOG.find(f"{entry.name}:{tag.upper()}")
            assert found is not None, (entry.name, tag)
            assert (found.entry, found.confidence) == (entry, "exact")


@pytest.mark.parametrize("suffix", ["q4_K_M", "q8_0", "fp16", "instruct-q4_0", "it-qat"])
def test_every_size_resolves_with_a_quantisation_behind_it(suffix: str) -> None:
    for entry in CATALOG.entries:
        found = CATALOG.find(f"{entry.name}:{entry.tags[0].split('-q4_K_M')[0]}-{suffix}")
        assert found is not None, entry.name
        assert found.entry.name == entry.name


def test_latest_is_the_family_default() -> None:
    for name, (tag, _) in CATALOG.families.items():
        default = CATALOG.find(f"{name}:{tag}")
        if tag and default:
            latest = CATALOG.find(name)
            assert latest is not None, name
            assert latest.entry == default.entry


def test_parsers_exist_in_the_engine() -> None:
    for entry in CATALOG.entries:
        assert entry.tool_parser in (None, *CATALOG.tool_parsers), entry.repo
        assert entry.reasoning_parser in (None, *CATALOG.reasoning_parsers), entry.repo


def test_repositories_look_like_repositories() -> None:
    for entry in CATALOG.entries:
        for repo, scheme in entry.repositories().items():
            assert re.fullmatch(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+", repo)
            assert family(scheme) in ("bf16", "fp8", "int8", "int4", "nvfp4", "mxfp4")
        assert CATALOG.by_repo(entry.repo.upper()) is not None


def test_cache_per_token_follows_the_shape() -> None:
    """Grouped-query models without windows or states: 2 (K and V) x 2 bytes x layers x heads x dimension."""
    for entry in CATALOG.entries:
        n = entry.numbers
        if n.kv_token and n.layers and n.kv_heads and n.head_dim and not n.mla:
            assert n.kv_token <= 4 * n.layers * n.kv_heads * n.head_dim


def test_other_hosts_and_users_are_not_the_library() -> None:
    assert CATALOG.find("hf.co/meta-llama/llama3.1:8b") is None
    assert CATALOG.find("someone/llama3.1:8b") is None
    assert CATALOG.find("no-such-model") is None
