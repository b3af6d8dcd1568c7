"""The gate of parity: what it leaves out, what it keeps, and that the verdict follows from what it kept."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from fake_engine import Engine, Reply

from orchestrator.checks import Side
from orchestrator.checks.parity import recompute
from orchestrator.errors import GateRefused
from orchestrator.journal import Journal
from orchestrator.spec import parse_spec
from orchestrator.steps import Skip, paritygate

MODEL = "llama3.1:8b"
SPEC = """
name: late
accelerator: cpu
engines: {one: {repo: org/repo}}
routes: {"llama3.1:8b": {engine: one}}
parity: {samples: 2, repeats: 1, timeout: 5s, PARITY}
"""


class Gate(paritygate.ParityGate):
    sides = ()

    def _side(self, name):
        return next(side for side in self.sides if side.name == name)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A gate without what comes before it, between two engines."""
    nothing = lambda *_: SimpleNamespace(do=lambda: None)  # noqa: E731
    monkeypatch.setattr(paritygate, "RenderingGate", nothing)
    monkeypatch.setattr(paritygate, "ContractGate", nothing)
    journal = Journal(tmp_path / ".state")
    journal.known({MODEL: True}, ("one",))

    def make(old, new, parity="", skips=()):
        context = SimpleNamespace(
            spec=parse_spec(SPEC.replace("PARITY", parity or "alpha: 0.05")), dir=tmp_path, journal=journal, skips=skips,
            say=lambda *_, **__: None, stop=SimpleNamespace(check=lambda: None), facts=None,
        )  # fmt: skip
        gate = Gate(context, MODEL)
        gate.sides = (Side("ollama", old.url), Side("vllm", new.url))
        return gate

    yield make
    journal.close()


def kept(tmp_path):
    report = tmp_path / "report"
    verdict = json.loads((report / "parity-llama3.1-8b.json").read_text())
    lines = [json.loads(line) for line in (report / "parity-llama3.1-8b.jsonl").read_text().splitlines()]
    return verdict, lines


def answer(body):
    if body.get("tools"):
        return Reply(status=400, error="no parser")
    finish = "length" if body["max_tokens"] == 1 else "stop"
    return Reply(tokens=["same ", str(len(str(body["messages"])))][: body["max_tokens"]], finish=finish)


def test_the_verdict_follows_from_the_raw_lines(made, tmp_path):
    with Engine(answer) as old, Engine(answer) as new:
        made(old, new).do()
    verdict, lines = kept(tmp_path)
    again = recompute(lines)
    assert (again.result, again.summary) == (verdict["result"], verdict["summary"]) == ("pass", again.summary)
    assert json.loads(json.dumps(again.evidence)) == verdict["evidence"]
    assert {line["kind"] for line in lines} == {"plan", "pair", "case", "answer", "sampling"}


def test_what_ollama_answers_and_vllm_refuses_stops_the_command(made, tmp_path):
    with Engine(lambda body: answer({**body, "tools": None})) as old, Engine(answer) as new:
        with pytest.raises(GateRefused, match="vLLM refuses 5 of 5"):
            made(old, new, "groups: [tools, facts]").do()
        made(old, new, "groups: [tools, facts], uses: [stop]").do()
    verdict, lines = kept(tmp_path)
    assert verdict["result"] == "pass"
    assert not [line for line in lines if line["kind"] == "case" and line["group"] == "tools"]
    assert any("parity.uses does not name it" in one["summary"] for one in verdict["evidence"]["groups"])


def test_a_skipped_group_is_recorded_with_its_reason(made, tmp_path):
    with Engine(lambda body: answer({**body, "tools": None})) as old, Engine(answer) as new:
        made(old, new, skips=(Skip("tools", "nobody calls them"),)).do()
    verdict, _ = kept(tmp_path)
    assert verdict["evidence"]["skipped"] == {"tools": "nobody calls them"}
    assert verdict["result"] == "pass"


def test_without_suites_it_is_the_smoke_prompts(made, tmp_path):
    with Engine(answer) as old, Engine(answer) as new:
        made(old, new, "suites: []").do()
    _, lines = kept(tmp_path)
    assert {line["kind"] for line in lines} == {"plan", "pair"}
    assert recompute(lines).result == "pass"


def test_own_suites_lie_beside_the_stack_file(made, tmp_path):
    (tmp_path / "mine.yaml").write_text("- {prompt: hi, assert: [{type: contains, value: same}]}\n")
    with Engine(answer) as old, Engine(answer) as new:
        made(old, new, "suites: [mine.yaml]").do()
    verdict, _ = kept(tmp_path)
    assert {one["name"]: one["result"] for one in verdict["evidence"]["groups"]}["own"] == "pass"
