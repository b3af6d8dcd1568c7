"""What vLLM's load does to Ollama's users: the figures, and the gate that measures them on a shared GPU."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from fake_engine import Engine, Reply
from test_load import burst, results

from orchestrator.checks import Side, livecost
from orchestrator.checks.livecost import Prober, live_cost
from orchestrator.checks.load import judge_load, recompute
from orchestrator.journal import Journal
from orchestrator.spec import parse_spec
from orchestrator.steps import loadgate

MODEL = "llama3.1:8b"
SPEC = """
name: late
engines: {one: {repo: org/repo, gpus: ["0"]}}
routes: {"llama3.1:8b": {engine: one}}
load: {users: [2], max_tokens: 4}
"""


def probes(phase, *times):
    return [{"phase": phase, "ms": ms, "error": None if ms else "gone"} for ms in times]


def test_before_and_after_are_the_control():
    found = live_cost([*probes("before", 100, 110), *probes("during", 240, 250, None), *probes("after", 120, 130)])
    assert (found["alone"]["n"], found["alone"]["p50_ms"], found["beside"]["p50_ms"]) == (4, 115, 245)
    assert found["ratio"] == pytest.approx(245 / 115)
    assert found["failed"] == {"alone": 0, "beside": 1}
    assert "2.13 times as long" in found["says"]
    assert "1 of 3 questions went unanswered" in found["says"]
    assert found["beside"]["p95_ms"] is None        # so few say nothing of it


def test_what_could_not_be_measured_is_said():
    assert live_cost([]) is None
    assert "could not be measured" in live_cost(probes("before", 100))["says"]
    assert "could not be measured; 2 of 2" in live_cost([*probes("before", 100), *probes("during", None, None)])["says"]


def test_it_is_evidence_and_no_reason_to_fail():
    slow = [*probes("before", 10), *probes("during", 10_000)]
    measured = replace(results(burst(ttft=400), burst()), probes=slow)
    verdict = judge_load(measured)
    assert verdict.result == "pass"
    assert verdict.evidence["live_cost"]["ratio"] == 1000
    assert recompute(map(json.loads, measured.lines())) == verdict


def test_questions_go_on_while_something_runs_and_a_refusal_is_one_too():
    def behave(_):
        behave.count += 1
        return Reply(status=503) if behave.count == 3 else Reply()

    behave.count = 0
    with Engine(behave) as ollama:
        prober = Prober(Side("ollama", ollama.url), "m", every_s=0.0)
        prober.few("before", 3)
        with prober.meanwhile():
            while len(prober.probes) < 6:
                pass
        prober.few("after", 2)
    phases = [one["phase"] for one in prober.probes]
    assert phases[:3] == ["before"] * 3
    assert phases[-2:] == ["after"] * 2
    assert phases.count("during") >= 3
    assert [one["ms"] is None for one in prober.probes[:3]] == [False, True, False]
    assert "503" in prober.probes[1]["error"]


@pytest.mark.parametrize(
    ("ollama", "engine", "accelerator", "shared"),
    [
        ("", '["0"]', "nvidia", True), ('gpus: ["0"]', '["0", "1"]', "nvidia", True),
        ('gpus: ["1"]', '["0"]', "nvidia", False), ("", "[]", "cpu", False),
    ],
)  # fmt: skip
def test_when_a_gpu_is_shared(ollama, engine, accelerator, shared):
    text = SPEC.replace('["0"]', engine) + f"accelerator: {accelerator}\nollama: {{{ollama}}}\n"
    assert loadgate.shares_gpu(parse_spec(text), MODEL) is shared


def test_the_gate_loads_vllm_alone_for_it(tmp_path, monkeypatch):
    journal, plans = Journal(tmp_path / ".state"), []
    journal.known({MODEL: True}, ("one",))
    notes = []

    def run(plan, _):
        plans.append(plan)
        return replace(results(burst(ttft=400), burst(), users=2, pairs=plan.levels[0].repeats), plan=plan)

    monkeypatch.setattr(loadgate, "run_load", run)
    monkeypatch.setattr(livecost.time, "sleep", lambda _: None)
    with Engine() as ollama:
        context = SimpleNamespace(
            spec=parse_spec(SPEC), dir=tmp_path, journal=journal, skips=(), facts=None,
            gateway=SimpleNamespace(auth_headers={}, side_url=lambda _: ollama.url),
            stop=SimpleNamespace(check=lambda: None), say=lambda _, text, *rest, **__: notes.append(text),
        )  # fmt: skip
        loadgate.LoadGate(context, MODEL).do()
    assert [side.name for side in plans[-1].sides] == ["vllm"]
    assert plans[-1].level_s == livecost.LEVEL_S
    lines = [json.loads(line) for line in (tmp_path / "report" / "load-llama3.1-8b.jsonl").read_text().splitlines()]
    assert sum(line["kind"] == "probe" and line["phase"] == "before" for line in lines) == livecost.BEFORE_N
    assert sum(line["kind"] == "probe" and line["phase"] == "after" for line in lines) == livecost.BEFORE_N
    assert any("short answer of Ollama" in text or "could not be measured" in text for text in notes)
