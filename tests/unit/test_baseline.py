"""The baseline of the untouched Ollama: few requests, kept with its raw lines, and never in the way of `up`."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from fake_engine import Engine, Reply

from orchestrator.checks import Side
from orchestrator.checks.baseline import baseline_plan, recompute
from orchestrator.errors import MigrateError
from orchestrator.journal import Journal
from orchestrator.plan import plan_up
from orchestrator.spec import parse_spec
from orchestrator.state import Event
from orchestrator.steps.baseline import TakeBaseline
from orchestrator.steps.loadgate import kept_baseline

MODEL = "llama3.1:8b"
SPEC = """
name: late
accelerator: cpu
ollama: {url: "http://127.0.0.1:1", container: ollama}
engines: {one: {repo: org/repo}}
routes: {"llama3.1:8b": {engine: one}, "nomic-embed-text": {kind: embedding}}
load: {users: [1, 3], max_tokens: 4, timeout: 5s}
"""


@pytest.fixture
def context(tmp_path):
    journal = Journal(tmp_path / ".state")
    journal.known({MODEL: True}, ("one",))
    said = []
    return SimpleNamespace(spec=parse_spec(SPEC), dir=tmp_path, journal=journal, facts=None, said=said,
                           stop=SimpleNamespace(check=lambda: None),
                           say=lambda subject, text, *_, **__: said.append(text))  # fmt: skip


def taken(context, engine, *loaded):
    engine.page = json.dumps({"models": [{"name": name, "model": name, "size": 1, "size_vram": 1} for name in loaded]})
    context.spec = parse_spec(SPEC.replace("http://127.0.0.1:1", engine.url))
    return TakeBaseline(context).do()["text"]


def test_it_is_taken_once_and_kept_with_its_raw_lines(context):
    with Engine(lambda body: Reply(tokens=["x"] * body["max_tokens"], gap_s=0.002)) as ollama:
        text = taken(context, ollama)
        assert TakeBaseline(context).already_done()
        asked = len(ollama.bodies)
        assert TakeBaseline(context).do()["text"] == ""
        assert len(ollama.bodies) == asked
    assert 30 <= asked <= 45    # 10 and 20, warm-up, probes
    assert "1 user: average" in text
    assert "3 users: average" in text
    folder = context.dir / "report"
    verdict = json.loads((folder / "baseline-llama3.1-8b.json").read_text())
    lines = [json.loads(line) for line in (folder / "baseline-llama3.1-8b.jsonl").read_text().splitlines()]
    again = json.loads(json.dumps(recompute(lines).to_json()))
    assert again == {name: verdict[name] for name in again}
    found = kept_baseline(context.journal, MODEL)
    assert [(one["users"], one["n"], one["errors"], one["timeouts"]) for one in found["levels"]] == [
        (1, 10, 0, 0), (3, 20, 0, 0),
    ]  # fmt: skip
    one, three = found["levels"]
    assert one["p95_ms"] is None        # ten say nothing of a p95
    assert three["p95_ms"] >= three["average_ms"] > 0
    assert three["tokens_per_s"] > 0


def test_one_that_is_not_there_stops_nothing(context):
    assert "no baseline" in TakeBaseline(context).do()["text"]
    assert kept_baseline(context.journal, MODEL) is None
    assert any("no baseline" in text for text in context.said)
    assert not TakeBaseline(context).already_done()     # the next `up` tries again


def test_a_model_that_others_use_is_not_pushed_out(context):
    with Engine() as ollama:
        assert "mistral:7b loaded, and llama3.1:8b might push it out" in taken(context, ollama, "mistral:7b")
        assert ollama.bodies == []
        assert "1 user: average" in taken(context, ollama, "mistral:7b", "LLAMA3.1:8b")


def test_errors_are_part_of_it(context):
    def behave(body):
        behave.count += 1
        return Reply(status=503, error="busy") if behave.count > 15 and behave.count % 3 == 0 else Reply()

    behave.count = 0
    with Engine(behave) as ollama:
        assert "failed" in taken(context, ollama)
    assert sum(one["errors"] for one in kept_baseline(context.journal, MODEL)["levels"]) > 0


def test_ctrl_c_is_heard(context):
    class Stopped(MigrateError):
        pass

    def check():
        raise Stopped("stop")

    context.stop = SimpleNamespace(check=check)
    with Engine(lambda _: Reply(gap_s=0.05)) as ollama, pytest.raises(Stopped):
        taken(context, ollama)
    assert kept_baseline(context.journal, MODEL) is None


def test_it_stops_where_users_have_to_wait(context, monkeypatch):
    monkeypatch.setattr("orchestrator.steps.baseline.ProbeWatch.check", lambda _: "live users wait")
    with Engine(lambda _: Reply(gap_s=0.05)) as ollama:
        text = taken(context, ollama)
    assert "stopped: live users wait" in text


def test_after_the_take_over_it_is_too_late(context):
    context.journal.move("stack", "late", Event.TOOK_OVER)
    assert TakeBaseline(context).already_done()


def test_it_is_bounded():
    plan = baseline_plan(Side("ollama", "http://o"), "m", 64, 16, 10.0)
    assert sum(level.requests for level in plan.levels) == 74
    assert plan.budget_s == 120
    assert [level.users for level in baseline_plan(Side("ollama", "http://o"), "m", 1, 16, 10.0).levels] == [1]


@pytest.mark.parametrize(("load", "there"), [("{}", True), ("{baseline: off}", False), ("{baseline: on}", True)])
def test_the_stack_file_may_leave_it_out(context, load, there):
    spec = parse_spec(SPEC.replace("{users: [1, 3], max_tokens: 4, timeout: 5s}", load))
    steps = plan_up(spec, context.journal.states()).steps
    kinds = [step.kind for step in steps]
    assert ("take-baseline" in kinds) is there
    if there:
        step = steps[kinds.index("take-baseline")]
        assert step.touches_live
        assert MODEL in step.cause
        assert kinds.index("take-baseline") < kinds.index("take-over")
