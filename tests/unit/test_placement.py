from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from decide_cases import cases, facts, read
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.decide.catalog import load
from orchestrator.decide.propose import propose
from orchestrator.decide.specfile import spec_to_yaml
from orchestrator.decide.vram import SPARE
from orchestrator.errors import UsageError
from orchestrator.spec import parse_spec


@pytest.mark.parametrize("path", cases("vram"), ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    case = read(path)
    found = propose("case", facts(case), tuple(case["ask"]) if "ask" in case else None)
    spec, expect = found.spec, case["expect"]
    assert spec.accelerator == expect.get("accelerator", "nvidia")
    if "engines" in expect:
        assert list(spec.engines) == list(expect["engines"])
        for name, wanted in expect["engines"].items():
            actual = spec.engines[name].model_dump(mode="json")
            assert {key: actual[key] for key in wanted} == wanted
    ollama = spec.ollama.model_dump(mode="json")
    assert {key: ollama[key] for key in expect.get("ollama", {})} == expect.get("ollama", {})
    assert expect.get("context", spec.ollama.context_length) == spec.ollama.context_length
    for model, patterns in expect.get("stays", {}).items():
        assert all(re.search(pattern, found.stays[model]) for pattern in patterns), found.stays[model]
    for words in expect.get("notes", []):
        assert words in " ".join(found.notes)
    if "recipes" in expect:
        assert list(found.recipes) == expect["recipes"]
    if "handover" in expect:
        assert [one.model for one in found.handovers] == expect["handover"]
    if "routes" in expect:
        assert {model: route.engine for model, route in spec.routes.items()} == expect["routes"]
    if "shared" in expect:
        used = {gpu for engine in spec.engines.values() for gpu in engine.gpus}
        assert bool(used & set(spec.ollama.gpus)) == expect["shared"]


@pytest.mark.parametrize("path", cases("vram"), ids=lambda path: path.stem)
def test_what_is_proposed_can_start(path: Path) -> None:
    """vLLM's start check passes with Ollama resident, one whole request fits, and something stays free."""
    case = read(path)
    found = propose("case", facts(case))
    assert not found.proof.problems
    assert not found.proof.unknown or found.spec.accelerator == "cpu"
    for budget in found.proof.budgets:
        assert budget.left >= SPARE
        taken = budget.others + budget.ollama
        for share in budget.shares:
            assert share.requested + share.ask.context() <= budget.total - taken
            assert share.weights + share.kv + share.activations + share.graphs <= share.requested
            assert share.kv >= share.ask.one_sequence()
            taken += share.requested + share.ask.context()


@pytest.mark.parametrize("path", cases("vram"), ids=lambda path: path.stem)
def test_the_file_reads_back_as_the_same_spec(path: Path) -> None:
    found = propose("case", facts(read(path)))
    text = spec_to_yaml(found.spec, found)
    assert parse_spec(text) == found.spec
    for model in found.stays:
        assert f"# {model} stays: " in text


def test_overrides_are_laid_over_the_proposal() -> None:
    case = {"gpus": ["40GiB cc8.0"], "models": [{"name": "qwen2.5:7b", "size": 4_683_087_332}]}
    found = propose("case", facts(case), overrides={"gateway": {"port": 8080}, "engines": {"qwen2-5-7b": {"drain": 5}}})
    assert found.spec.gateway.port == 8080
    assert found.spec.gateway.listen == "127.0.0.1"
    assert found.spec.engines["qwen2-5-7b"].drain == 5
    assert found.spec.engines["qwen2-5-7b"].repo == "Qwen/Qwen2.5-7B-Instruct"


def test_what_was_withheld_is_named_and_not_carried_over() -> None:
    case = {"gpus": ["40GiB cc8.0"], "models": [{"name": "qwen2.5:7b", "size": 4_683_087_332}],
            "env": {"OLLAMA_FLASH_ATTENTION": "1"}}
    seen = facts(case)
    assert seen.ollama.container is not None
    container = dataclasses.replace(seen.ollama.container, withheld=("OLLAMA_API_KEY",))
    found = propose("case", dataclasses.replace(seen, ollama=dataclasses.replace(seen.ollama, container=container)))
    assert found.spec.ollama.env == {"OLLAMA_FLASH_ATTENTION": "1"}
    assert "OLLAMA_API_KEY" in spec_to_yaml(found.spec, found)


def test_overrides_name_a_repository_and_the_cpu() -> None:
    case = {"gpus": ["24GiB cc8.9"], "models": [{"name": "acme/helper:latest", "size": 1}]}
    assert "acme/helper:latest" in propose("case", facts(case)).stays
    laid = {"accelerator": "cpu", "engines": {"helper": {"repo": "/models/helper", "max_model_len": 512}}}
    found = propose("case", facts(case), overrides=laid).spec
    assert found.accelerator == "cpu"
    assert found.engines["helper"].repo == "/models/helper"
    assert found.engines["helper"].gpus == ()
    assert found.routes["acme/helper:latest"].engine == "helper"


def test_overrides_that_do_not_fit_are_a_usage_error_with_every_problem() -> None:
    case = {"gpus": ["40GiB cc8.0"], "models": [{"name": "qwen2.5:7b", "size": 4_683_087_332}]}
    with pytest.raises(UsageError) as caught:
        propose("case", facts(case), overrides={"gateway": {"port": 0}, "colour": "red"})
    assert "gateway/port" in caught.value.evidence
    assert "colour" in caught.value.evidence


_MODELS = sorted({f"{entry.name}:{entry.tags[0]}" for entry in load().entries})


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.sampled_from(_MODELS), min_size=1, max_size=4, unique=True),
    gpus=st.lists(st.tuples(st.sampled_from([8, 12, 16, 24, 40, 48, 80, 141]), st.sampled_from([6.1, 7.5, 8.0, 8.9, 9.0, 12.0])),
                  max_size=4),
    context=st.sampled_from([None, 2048, 8192, 40000]),
    slots=st.sampled_from(["1", "4", "many"]),
)  # fmt: skip
def test_whatever_is_there_the_proposal_is_valid_and_can_start(names, gpus, context, slots) -> None:
    sizes = {f"{e.name}:{e.tags[0]}": round((e.numbers.params_b or 1) * 0.6e9) for e in load().entries}
    env = {"OLLAMA_NUM_PARALLEL": slots} | ({"OLLAMA_CONTEXT_LENGTH": str(context)} if context else {})
    case = {"gpus": [f"{size}GiB cc{capability}" for size, capability in gpus],
            "models": [{"name": name, "size": sizes[name]} for name in names], "env": env}  # fmt: skip
    found = propose("case", facts(case))
    assert not found.proof.problems, str(found.proof)
    assert set(found.stays) | set(found.spec.routes) == set(names)
    assert not set(found.stays) & set(found.spec.routes)
    for engine in found.spec.engines.values():
        repos = load().by_repo(engine.repo)
        assert repos is not None
        heads = repos[0].numbers.heads
        assert engine.tensor_parallel == 1 or heads % engine.tensor_parallel == 0
    assert parse_spec(spec_to_yaml(found.spec, found)) == found.spec


def test_what_a_note_says_of_sequences_is_what_the_engine_gets() -> None:
    for path in cases("vram"):
        found = propose("case", facts(read(path)))
        said = [note for note in found.notes if note.startswith("max_num_seqs")]
        for engine in found.spec.engines.values():
            if found.spec.accelerator == "cpu":
                assert not said
            else:
                assert any(note.startswith(f"max_num_seqs {engine.max_num_seqs}") for note in said), path.stem
