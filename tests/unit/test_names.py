import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.names import canonical, slug


@pytest.mark.parametrize(
    "given_name, expected",
    [
        ("Llama3.1:8B", "llama3.1:8b"),
        ("llama3.1", "llama3.1:latest"),
        ("library/foo", "foo:latest"),
        ("registry.ollama.ai/library/foo", "foo:latest"),
        ("registry.ollama.ai/library/foo:7b", "foo:7b"),
        ("registry.ollama.ai/someone/foo", "someone/foo:latest"),
        ("hf.co/Org/Repo:Q4_K_M", "hf.co/org/repo:q4_k_m"),
        ("localhost:5000/team/foo", "localhost:5000/team/foo:latest"),
        ("  foo:1b\n", "foo:1b"),
        ("https://registry.ollama.ai/library/foo", "foo:latest"),
        ("http://hf.co/Org/Repo", "hf.co/org/repo:latest"),
        ("registry.ollama.ai/foo", "registry.ollama.ai/foo:latest"),
        ("library/team/foo", "library/team/foo:latest"),
        ("registry.ollama.ai/library", "registry.ollama.ai/library:latest"),
    ],
)
def test_one_spelling_per_model(given_name, expected):
    assert canonical(given_name) == expected


@given(st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), min_size=1, max_size=40))
def test_a_bare_name_and_its_latest_tag_are_the_same(name):
    bare = name.replace(":", "").replace("/", "")
    assert canonical(bare) == canonical(f"{bare.strip()}:latest")


@pytest.mark.parametrize(
    "name, expected",
    [
        ("llama3.1:8b", "llama3-1-8b"),
        ("foo:latest", "foo"),
        ("hf.co/Org/Repo_X:Q4", "repo-x-q4"),
        ("...", "model"),
        ("a" * 38 + ".." + "b", "a" * 38),
    ],
)
def test_slug(name, expected):
    assert slug(name) == expected


@given(st.text(max_size=60))
def test_a_slug_of_an_ascii_name_is_always_a_service_name(name):
    found = slug(name.encode("ascii", "ignore").decode())
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,38}", found)
    assert not found.endswith("-")
