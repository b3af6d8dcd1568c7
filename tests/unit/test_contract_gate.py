"""The gates before the answers: what they are asked with, what they keep, and how they say no or are left out."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from orchestrator.checks import Side, Verdict
from orchestrator.errors import GateRefused, UsageError
from orchestrator.facts import Facts, Model, OllamaFacts, Traffic
from orchestrator.journal import Journal
from orchestrator.spec import parse_spec
from orchestrator.steps import Skip, contractgate
from orchestrator.steps.contractgate import ContractGate, RenderingGate
from orchestrator.steps.registry import groups

MODEL = "llama3.1:8b"
SPEC = """
name: early
accelerator: cpu
engines: {one: {repo: org/repo}}
routes: {"llama3.1:8b": {engine: one}}
"""
LINES = [{"kind": "plan", "check": "x"}, {"kind": "answer", "text": "é"}]


@pytest.fixture
def context(tmp_path, monkeypatch):
    monkeypatch.setattr(contractgate.Gate, "_side", lambda _, name: Side(name, f"http://{name}"))
    journal = Journal(tmp_path / ".state")
    journal.known({MODEL: True}, ("one",))
    said = []
    facts = Facts(OllamaFacts("http://o", "0.32", models=(Model(MODEL),)), traffic=Traffic(paths={"/api/chat": 4}))
    return SimpleNamespace(
        spec=parse_spec(SPEC), dir=tmp_path, journal=journal, skips=(), said=said, facts=facts,
        stop=SimpleNamespace(check=lambda: None),
        say=lambda subject, text, *_, **__: said.append((subject, text)),
    )


def answering(monkeypatch, name: str, result: str = "pass") -> dict:
    asked: dict = {}

    def check(old, new, model, **options):
        asked.update(options, sides=(old.name, new.name), model=model)
        options["progress"](1, 2, "question")
        return Verdict(name.removeprefix("check_"), model, result, "so it is", {"n": 1}), LINES

    monkeypatch.setattr(contractgate, name, check)
    return asked


@pytest.mark.parametrize("gate, name", [(RenderingGate, "check_rendering"), (ContractGate, "check_contract")])
def test_a_verdict_and_its_lines_are_kept_and_the_route_stays_where_it_is(context, monkeypatch, gate, name) -> None:
    asked = answering(monkeypatch, name)
    before = context.journal.states().routes[MODEL]
    gate(context, MODEL).do()
    check = name.removeprefix("check_")
    report = context.dir / "report"
    assert [json.loads(line) for line in (report / f"{check}-llama3.1-8b.jsonl").read_text().splitlines()] == LINES
    assert json.loads((report / f"{check}-llama3.1-8b.json").read_text())["check"] == check
    assert context.journal.last("verdict", f"{check} {MODEL}").text == "pass"
    assert context.journal.states().routes[MODEL] is before
    assert (asked["sides"], asked["model"]) == (("ollama", "vllm"), MODEL)
    assert asked["used"].paths == {"/api/chat": 4}
    assert (f"check-{check} {MODEL}", "1 of 2: question") in context.said


def test_a_no_stops_the_command(context, monkeypatch) -> None:
    answering(monkeypatch, "check_rendering", "fail")
    with pytest.raises(GateRefused, match="rendering of llama"):
        RenderingGate(context, MODEL).do()


def test_one_that_is_left_out_asks_nobody(context, monkeypatch) -> None:
    asked = answering(monkeypatch, "check_contract", "fail")
    context.skips = (Skip("contract", "known"),)
    ContractGate(context, MODEL).do()
    assert asked == {}
    assert context.journal.last("skip", f"contract {MODEL}").data == {"reason": "known"}


@pytest.mark.parametrize("system, direct", [(None, True), ("Be brief.", False)])
def test_what_never_goes_straight_to_the_engine_is_not_judged_there(context, monkeypatch, system, direct) -> None:
    asked = answering(monkeypatch, "check_rendering")
    context.facts = Facts(OllamaFacts("http://o", "0.32", models=(Model(MODEL, system=system),)))
    RenderingGate(context, MODEL).do()
    assert asked["direct"] is direct


def test_what_is_used_is_the_stack_files_word_and_a_typo_is_told(context, monkeypatch) -> None:
    asked = answering(monkeypatch, "check_contract")
    context.spec = parse_spec(SPEC + "parity: {uses: [tools, context]}\n")
    ContractGate(context, MODEL).do()
    assert asked["used"].uses == ("tools", "context")
    context.spec = parse_spec(SPEC + "parity: {uses: [tols]}\n")
    with pytest.raises(UsageError, match="no such group: tols"):
        ContractGate(context, MODEL).do()


def test_both_may_be_left_out_by_name() -> None:
    assert {"rendering", "contract"} <= set(groups())
