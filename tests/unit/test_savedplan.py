"""A saved plan comes back as it was, and names what moved since."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from types import SimpleNamespace

import pytest

from orchestrator.commands import move
from orchestrator.errors import MigrateError, UsageError, WrongState
from orchestrator.facts import AdapterFacts, Facts, Gpu, Loaded, Model, OllamaFacts
from orchestrator.plan import plan_up
from orchestrator.savedplan import GIB, SavedPlan, load, made, moved, save
from orchestrator.spec import parse_spec
from orchestrator.state import EngineState, StackState, States

TEXT = """
name: main
engines: {one: {repo: org/one, gpus: ["0"], kv_cache: 4GiB, start_timeout: 5m}}
routes: {"llama3.1:8b": {engine: one}}
"""
SPEC = parse_spec(TEXT)
GPU = Gpu("0", "GPU-a", "RTX", 24 * GIB, 20 * GIB, 8.9)
FACTS = Facts(OllamaFacts("http://x", "0.32.6", (Model("llama3.1:8b", digest="sha256:aa"),)), gpus=(GPU,))
STATES = States(stack=StackState.PLANNED, engines={}, routes={}, since={})
SAVED = made(SPEC, FACTS, plan_up(SPEC, STATES), "migrate", "2026-01-01T00:00:00Z")


def ollama(**changes):
    return replace(FACTS, ollama=replace(FACTS.ollama, **changes))


def test_it_comes_back_as_it_was_and_nothing_moved(tmp_path):
    save(tmp_path / "plan.json", SAVED)
    back = load(tmp_path / "plan.json")
    assert back == SAVED
    assert moved(back, FACTS, SPEC) == []
    assert list(tmp_path.iterdir()) == [tmp_path / "plan.json"]
    assert [step.kind for step in back.steps] == [step.kind for step in plan_up(SPEC, STATES).steps]


@pytest.mark.parametrize(("facts", "words"), [
    (ollama(models=()), ["model llama3.1:8b is gone"]),
    (ollama(models=(*FACTS.ollama.models, Model("b:1"))), ["model b:1 is new"]),
    (ollama(models=(Model("llama3.1:8b", digest="sha256:bb"),)), ["pulled or made again"]),
    (ollama(version="0.33.0"), ["Ollama is 0.33.0"]),
    (replace(FACTS, gpus=()), ["GPU 0 (GPU-a) is gone"]),
    (replace(FACTS, gpus=(replace(GPU, uuid="GPU-b"),)), ["GPU-a) is gone", "GPU-b) is new"]),
    (replace(FACTS, gpus=(replace(GPU, index="1"),)), ["was 0 and is 1"]),
    (replace(FACTS, gpus=(replace(GPU, free=18 * GIB),)), ["18.0 GiB free; it had 20.0"]),
    (replace(FACTS, gpus=(replace(GPU, total=12 * GIB),)), ["other hardware"]),
    (replace(FACTS, gpus=(replace(GPU, free=20 * GIB - 2**20),)), []),
])  # fmt: skip
def test_what_moved_is_named(facts, words):
    found = moved(SAVED, facts, SPEC)
    assert len(found) == len(words)
    for text, word in zip(found, words, strict=True):
        assert word in text


def test_what_ollama_loaded_itself_is_no_move():
    loaded = (Loaded("llama3.1:8b", 6 * GIB, 6 * GIB),)
    facts = replace(ollama(loaded=loaded), gpus=(replace(GPU, free=14 * GIB),))
    assert moved(SAVED, facts, SPEC) == []


def test_free_memory_does_not_count_once_own_engines_run():
    facts = replace(FACTS, gpus=(replace(GPU, free=0),))
    assert moved(SAVED, facts, SPEC, count_free=False) == []


def test_an_edited_spec_is_named_by_key_and_comments_do_not_count():
    assert moved(SAVED, FACTS, parse_spec(TEXT + "# a comment\n")) == []
    found = moved(SAVED, FACTS, parse_spec(TEXT.replace("4GiB", "5GiB")))
    assert len(found) == 1
    assert "engines/one/kv_cache" in found[0]


def test_another_tool_is_named():
    assert "migrate is" in moved(SAVED.model_copy(update={"tool": "0.0.0"}), FACTS, SPEC)[0]


def test_secrets_are_refused_by_place_and_references_are_not():
    bad = TEXT + "ollama: {env: {MY_TOKEN: abc, OTHER: hf_abcdefghijklmnopqrstu}}\n"
    with pytest.raises(UsageError) as caught:
        made(parse_spec(bad), FACTS, plan_up(SPEC, STATES), "", "now")
    assert caught.value.evidence.splitlines() == ["ollama/env/MY_TOKEN", "ollama/env/OTHER"]
    good = TEXT + "ollama: {env: {MY_TOKEN: '${MY_TOKEN}'}}\n"
    made(parse_spec(good), FACTS, plan_up(SPEC, STATES), "", "now")


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "1", "{}", '"x"', "[" * 100_000, "\ufeff{}"])
def test_what_is_no_plan_is_said(tmp_path, text):
    path = tmp_path / "plan.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError):
        load(path)


def test_every_problem_is_told_at_once_and_an_edit_is_noticed(tmp_path):
    path = tmp_path / "plan.json"
    data = SAVED.model_dump(mode="json")
    path.write_text(json.dumps({**data, "schema_version": 2, "models": 3, "more": 1}), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load(path)
    assert [line.split(":")[0] for line in caught.value.evidence.splitlines()] == ["schema_version", "models", "more"]
    path.write_text(json.dumps({**data, "spec": data["spec"] + "#"}), encoding="utf-8")
    with pytest.raises(UsageError, match="edited"):
        load(path)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(MigrateError):
        save(tmp_path / "none" / "plan.json", SAVED)
    with pytest.raises(UsageError):
        load(tmp_path)


def test_the_published_schema_is_the_models():
    text = (resources.files("orchestrator") / "data" / "plan.schema.json").read_text(encoding="utf-8")
    assert json.loads(text) == SavedPlan.model_json_schema()


@pytest.mark.parametrize("state", [EngineState.ABSENT, EngineState.READY])
def test_up_refuses_a_moved_world_with_what_moved(monkeypatch, tmp_path, state):
    states = SimpleNamespace(engines={"one": state})
    session = SimpleNamespace(
        spec=SPEC, context=SimpleNamespace(docker=None), journal=SimpleNamespace(states=lambda: states),
        space=SimpleNamespace(spec=lambda: SPEC, dir=tmp_path),
    )
    monkeypatch.setattr(move.world, "look", lambda *_: FACTS)
    move._as_planned(session, SAVED)
    filled = replace(ollama(version="9"), gpus=(replace(GPU, free=0),))
    monkeypatch.setattr(move.world, "look", lambda *_: filled)
    with pytest.raises(WrongState) as caught:
        move._as_planned(session, SAVED)
    assert ("free" in caught.value.evidence) == (state is EngineState.ABSENT)
    assert "Ollama is 9" in caught.value.evidence
    assert "migrate plan" in caught.value.hint


def test_an_adapter_that_was_made_again_is_named_and_one_that_nobody_sees_is_not():
    seen = AdapterFacts("one", "support", "./support", {"r": 16}, 77, {"q_proj": (16, 8, 8)})
    saved = made(SPEC, replace(FACTS, adapters=(seen,)), plan_up(SPEC, STATES), "migrate", "now")

    def now(**change):
        return moved(saved, replace(FACTS, adapters=(replace(seen, **change),)), SPEC)

    assert now() == []
    assert now(config={}, size=None, tensors={}, doubt="offline") == []
    assert now(size=78) == ["adapter one/support was made again: another configuration, or other weights"]
    assert now(config={"r": 8}) == now(size=78)
    assert now(problem="/x does not exist") == ["adapter one/support: /x does not exist"]
