"""Facts go to a file and come back equal; a file that holds something else is told all that is wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import facts as f
from orchestrator.errors import UsageError
from orchestrator.observe.factsfile import dumps, load, loads

NUMBER = st.integers(0, 2**63)
GPU = st.builds(f.Gpu, st.text(), st.text(), st.text(), NUMBER, NUMBER, st.sampled_from([7.5, 8.9, 12.0]),
                st.integers(0, 9), st.booleans(), st.booleans())
MODEL = st.builds(f.Model, st.text(min_size=1), NUMBER, capabilities=st.lists(st.text()).map(tuple),
                  system=st.none() | st.text(), parameters=st.dictionaries(st.text(), st.integers() | st.text()))
HOST = st.builds(f.Host, ram=st.none() | NUMBER, disk_free=st.dictionaries(st.text(), NUMBER), wsl=st.booleans())
FACTS = st.builds(
    f.Facts, st.builds(f.OllamaFacts, st.text(), st.text(), st.lists(MODEL, max_size=3).map(tuple)),
    gpus=st.lists(GPU, max_size=3).map(tuple), host=HOST,
)


@settings(max_examples=60, deadline=None)
@given(FACTS)
def test_there_and_back(facts):
    assert loads(dumps(facts)) == facts


def test_newer_keys_are_passed_over():
    data = json.loads(dumps(f.Facts(f.OllamaFacts("u", "v"))))
    data["facts"]["tomorrow"] = 1
    data["facts"]["ollama"]["moon"] = {}
    assert loads(json.dumps(data)) == f.Facts(f.OllamaFacts("u", "v"))


def test_all_problems_at_once_with_their_path():
    data = {"schema": 1, "facts": {"ollama": {"url": 3, "models": [{"size": "x"}]}, "gpus": 5}}
    with pytest.raises(UsageError) as caught:
        loads(json.dumps(data), "f.json")
    for path in ("facts.ollama.url", "facts.ollama.version", "facts.ollama.models[0].name",
                 "facts.ollama.models[0].size", "facts.gpus"):
        assert path in caught.value.evidence


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "{}", '{"schema": 9, "facts": {}}', "[" * 100_000])
def test_something_else_is_a_sentence(text):
    with pytest.raises(UsageError):
        loads(text)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        load(tmp_path / "none")


def test_half_a_character_is_refused_when_it_is_read():
    text = dumps(f.Facts(f.OllamaFacts("u", "v", (f.Model("m", digest="\ud800"),))))
    with pytest.raises(UsageError, match="surrogates"):
        loads(text)
