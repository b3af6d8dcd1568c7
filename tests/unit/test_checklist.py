"""Each item of the checklist is proven by evidence, open with something to do, or not applicable."""

from __future__ import annotations

import dataclasses

import decide_cases
import pytest

from orchestrator.decide.checklist import NOT, OPEN, PROVEN, checklist, checklist_text
from orchestrator.facts import Caller, DockerFacts, Facts, Loaded, Model, OllamaFacts, Spread, Traffic
from orchestrator.spec import Spec, parse_spec

SPEC = """
name: team
engines: {llama: {repo: meta-llama/Llama-3.1-8B-Instruct, gpus: ["0"], gated: %s}}
routes: {"llama3.1:8b": {engine: llama}}
"""
EMPTY = Facts(OllamaFacts("http://127.0.0.1:11434", "0.32.6"))
MODEL = Model("llama3.1:8b", quantization="Q4_K_M")
FULL = dataclasses.replace(
    decide_cases.facts({"models": [], "gpus": ["24GiB cc8.9"]}), cuda="12.8", docker=DockerFacts("29.1.0", "v2.40.1"),
    callers=(Caller("a.py", 1, "url", "x", works=True),),
    traffic=Traffic("log", requests=9, latency=Spread(9, 1.0, 2.0), models={"llama3.1:8b": 9}, native=0.5),
)  # fmt: skip
FULL = dataclasses.replace(
    FULL, ollama=dataclasses.replace(FULL.ollama, models=(MODEL,), loaded=(Loaded(MODEL.name, 9, 9),))
)


def spec(gated: str = "false") -> Spec:
    return parse_spec(SPEC % gated)


def states(facts: Facts, asked: Spec | None = None, **more: bool) -> dict[str, str]:
    return {item.title: item.state for item in checklist(asked or spec(), facts, **more)}


def test_nothing_is_proven_from_nothing() -> None:
    proven = [item.title for item in checklist(spec(), EMPTY) if item.state == PROVEN]
    assert proven == ["vLLM supports the models", "rollback triggers"]


def test_full_evidence_leaves_what_only_people_can_do() -> None:
    left = [title for title, state in states(FULL, fits=True).items() if state == OPEN]
    assert left == ["parallel-run window", "the team is told"]


def test_open_items_say_what_to_do() -> None:
    for facts in (EMPTY, FULL):
        for item in checklist(spec("true"), facts, fits=False):
            assert bool(item.todo) == (item.state == OPEN), item.title
            assert item.evidence


@pytest.mark.parametrize("capability,state", [(8.0, PROVEN), (7.5, OPEN), (6.1, OPEN)])
def test_compute_capability(capability: float, state: str) -> None:
    old = dataclasses.replace(FULL, gpus=(dataclasses.replace(FULL.gpus[0], compute_capability=capability),))
    assert next(item.state for item in checklist(spec(), old) if item.title.startswith("GPU and driver")) == state


@pytest.mark.parametrize("engine,compose,state", [
    ("29.0", "v2.1", PROVEN), ("20.10.7", "2.1", OPEN), ("29.0", "1.29", OPEN), ("", "", OPEN), ("dev", "x", OPEN),
])  # fmt: skip
def test_docker_versions(engine: str, compose: str, state: str) -> None:
    facts = dataclasses.replace(FULL, docker=DockerFacts(engine, compose))
    assert states(facts)["Docker Engine 23 or newer with Compose v2"] == state


def test_a_rehearsal_needs_no_gpu_and_an_unknown_repository_is_open() -> None:
    rehearsal = parse_spec("name: a\naccelerator: cpu\nengines: {e: {repo: nobody/nothing}}\nroutes: {m: {engine: e}}")
    found = states(EMPTY, rehearsal)
    assert found["NVIDIA Container Toolkit"] == found["VRAM for both engines at once"] == NOT
    assert found["vLLM supports the models"] == OPEN


def test_text_counts_and_has_every_item() -> None:
    items = checklist(spec(), FULL, fits=True)
    text = " ".join(checklist_text(items).split())
    assert all(item.title in text for item in items)
    assert f"{sum(item.state == PROVEN for item in items)} proven, 2 open" in text
