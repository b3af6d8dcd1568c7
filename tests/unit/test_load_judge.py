"""The load gate's verdict: its reasons, the level that judges, and pairs that are added until it stands."""

from __future__ import annotations

import itertools
import json
import random
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import pytest
from fake_engine import Engine, Reply
from test_load import SIDES, burst, lagging, results, sample

from orchestrator.checks.load import LoadResults, LoadThresholds, judge_load, recompute
from orchestrator.checks.loadjudge import wants_pairs
from orchestrator.checks.loadplan import LoadPlan
from orchestrator.checks.loadruns import compare_latency, compare_rate
from orchestrator.checks.loadshape import Level
from orchestrator.checks.loadspread import over_runs
from orchestrator.errors import Inconclusive
from orchestrator.facts import Facts, OllamaFacts, Spread, Traffic
from orchestrator.journal import Journal
from orchestrator.spec import parse_spec
from orchestrator.stats import percentile
from orchestrator.steps import loadgate

MODEL = "llama3.1:8b"
SPEC = """
name: late
accelerator: cpu
engines: {one: {repo: org/repo, max_num_seqs: 8}}
routes: {"llama3.1:8b": {engine: one}}
load: {users: [1, 3], requests_per_user: 2, max_tokens: 4}
"""


def named(verdict):
    return {one["what"]: one["result"] for one in verdict.evidence["reasons"]}


def test_one_pair_shows_no_spread_and_gives_no_verdict():
    verdict = judge_load(results(burst(ttft=400), burst(), pairs=1))
    assert verdict.result == "inconclusive"
    assert "one pair, no interval" in verdict.summary
    assert wants_pairs(verdict.evidence)


def test_equal_servers_are_neither_passed_nor_failed_and_it_is_told_what_is_missing():
    verdict = judge_load(results(burst(), burst(), pairs=5, apart=0.02))
    assert verdict.result == "inconclusive"
    assert "output rate not decided" in verdict.summary
    assert "more pairs of runs" in verdict.summary
    assert named(verdict) == {"latency": "pass", "output rate": "inconclusive"}
    assert not wants_pairs(judge_load(results(burst(), burst(), pairs=8, apart=0.02)).evidence)


def test_what_has_failed_already_needs_no_more_pairs():
    bad = sample(outcome="error", token_us=[], last_us=None)
    assert not wants_pairs(judge_load(results(burst(), [*burst(), bad])).evidence)
    # Too slow is plain, and less output is not known yet: the first is enough.
    slow = judge_load(results(burst(), burst(ttft=300), apart=0.02))
    assert slow.result == "fail"
    assert not wants_pairs(slow.evidence)


def test_every_reason_is_named():
    verdict = judge_load(results(burst(), [sample(ttft=500, at=60 * n) for n in range(60)]))
    assert named(verdict) == {"latency": "fail", "output rate": "fail"}
    assert "too slow" in verdict.summary
    assert "too little throughput" in verdict.summary


def test_a_timeout_is_not_an_allowed_error():
    late = sample(outcome="timeout", token_us=[], last_us=None)
    bad = sample(outcome="error", token_us=[], last_us=None)
    terms = LoadThresholds(error_rate=0.10)
    assert named(judge_load(results(burst(ttft=200), [*burst(), late]), terms)) == {"timeouts": "fail"}
    assert judge_load(results(burst(ttft=200), [*burst(), bad]), terms).result == "pass"


def test_how_far_ollamas_lateness_could_reach_is_taken_from_the_far_end_of_the_interval():
    terms = LoadThresholds(1.5, 0.1)
    assert judge_load(results(lagging(burst()), burst()), terms).result == "pass"
    verdict = judge_load(results(lagging(burst()), burst(), apart=0.05), terms)
    assert verdict.result == "inconclusive"
    assert "bottleneck on ollama" in verdict.summary


def test_one_run_in_which_the_machine_stalled_does_not_spoil_the_others():
    old, new = burst(), burst(ttft=80)
    measured = results(old, new, pairs=3)
    stalled = [s | {"send_lag_us": 90_000} if s["side"] == "ollama" and s["repeat"] == 1 else s for s in measured.samples]
    assert judge_load(replace(measured, samples=stalled)).result == "pass"
    worse = results(burst(), burst(ttft=400), pairs=3)
    stalled = [s | {"send_lag_us": 90_000} if s["side"] == "vllm" and s["repeat"] == 1 else s for s in worse.samples]
    assert judge_load(replace(worse, samples=stalled)).result == "fail"


def with_slo(measured, **slo):
    return replace(measured, runs=[run | {"slo": slo} for run in measured.runs])


@pytest.mark.parametrize(
    ("slow", "result"), [(0, "pass"), (3, "pass"), (4, "inconclusive"), (5, "inconclusive"), (8, "fail")]
)
def test_objectives_are_met_by_enough_requests(slow, result):
    new = [sample(ttft=90 if n >= slow else 250, at=5 * n) for n in range(60)]
    verdict = judge_load(with_slo(results(burst(ttft=400), new), ttft=100))
    objectives = named(verdict).get("objectives")
    assert objectives == result
    assert wants_pairs(verdict.evidence) is (result == "inconclusive")
    assert slow < 4 or f"{3 * slow} missed ttft" in verdict.summary


def test_the_level_that_judges_is_the_one_that_was_told():
    low, high = results(burst(ttft=400), burst(), users=5), results(burst(), burst(ttft=600), users=50)
    both = LoadResults(
        replace(low.plan, levels=(*low.plan.levels, *high.plan.levels)), [*low.samples, *high.samples],
        [*low.runs, *high.runs],
    )  # fmt: skip
    assert judge_load(both, LoadThresholds(users=5)).result == "pass"
    assert judge_load(both, LoadThresholds()).result == "fail"
    assert judge_load(both, LoadThresholds(users=7)).evidence["judged_at"] == 50


def test_blocks_become_one_test():
    block = results(burst(ttft=400), burst())
    whole = LoadResults(LoadPlan(SIDES, "m", (Level(1, 10),))).and_then(block).and_then(block)
    assert [pair["repeat"] for pair in whole.pairs(10)] == [0, 1, 2, 3, 4, 5]
    assert [level.users for level in whole.plan.levels] == [1, 10]
    assert len(whole.samples) == 6 * 120
    assert whole.figures("vllm", 10)["n"] == 360


def test_intervals_over_runs_know_how_much_those_differ():
    dice, tests, truth = random.Random(3), 300, 200.0
    held = dict.fromkeys((2, 3, 4, 6), 0)
    for _ in range(tests):
        levels = [truth * dice.lognormvariate(0, 0.1) for _ in range(6)]
        samples = [sample(ttft=level * dice.lognormvariate(0, 0.05), tokens=2, repeat=repeat)
                   for repeat, level in enumerate(levels) for _ in range(25)]  # fmt: skip
        for count in held:
            mine = [s for s in samples if s["repeat"] < count]
            told = over_runs(one_run(mine), mine, [{"repeat": n} for n in range(count)])
            low, high = (told["ttft_ms"]["p50"][end] for end in ("low", "high"))
            held[count] += low is not None and low <= truth <= high
    assert held[2] == held[3] == 0      # so few say nothing
    assert min(held[4], held[6]) / tests >= 0.93
    assert over_runs(one_run(samples), samples, [{"repeat": 0}]) == one_run(samples)    # of one run: that run's own


def one_run(samples):
    value = percentile([s["token_us"][0] / 1000 for s in samples], 50)
    return {name: {"n": 60, "p50": {"q": 50.0, "value": value, "low": 199.0, "high": 201.0}}
            for name in ("ttft_ms", "ttft_sent_ms", "e2e_ms", "tpot_ms")}  # fmt: skip


# the gate


@pytest.fixture
def stage(tmp_path):
    """A context whose sides are two small servers; `behave` of each may be changed."""
    journal = Journal(tmp_path / ".state")
    journal.known({MODEL: True}, ("one",))
    with Engine(lambda _: Reply(gap_s=0.004)) as old, Engine(lambda _: Reply(gap_s=0.0005)) as new:
        gateway = SimpleNamespace(auth_headers={"Authorization": "Bearer secret"},
                                  side_url=lambda side: (old if side == "ollama" else new).url)  # fmt: skip
        yield SimpleNamespace(
            spec=parse_spec(SPEC), dir=tmp_path, journal=journal, skips=(), facts=None, gateway=gateway, old=old,
            new=new, stop=SimpleNamespace(check=lambda: None), said=[], say=lambda *_, **__: None,
        )  # fmt: skip


def kept(stage):
    folder = stage.dir / "report"
    lines = [json.loads(line) for line in (folder / "load-llama3.1-8b.jsonl").read_text().splitlines()]
    return json.loads((folder / "load-llama3.1-8b.json").read_text()), lines


def test_the_gate_keeps_what_its_verdict_follows_from(stage):
    stage.spec = parse_spec(SPEC.replace("max_tokens: 4", "max_tokens: 4, pairs: 3"))
    with suppress(Inconclusive):    # a busy machine may have held up the client: that is a verdict too
        loadgate.LoadGate(stage, MODEL).do()
    verdict, lines = kept(stage)
    again = json.loads(json.dumps(recompute(lines).to_json()))
    assert again == {name: verdict[name] for name in again}
    assert verdict["result"] != "fail"
    assert "secret" not in json.dumps(lines)
    users = {(run["side"], run["users"]) for run in lines if run["kind"] == "level"}
    assert users == set(itertools.product(("ollama", "vllm"), (1, 3)))
    order = [run["side"] for run in lines if run["kind"] == "level" and run["users"] == 3]
    assert order == ["vllm", "ollama", "ollama", "vllm", "vllm", "ollama"]


def test_raw_lines_that_were_altered_give_another_verdict():
    lines = [json.loads(line) for line in results(burst(ttft=400), burst()).lines()]
    assert recompute(lines).result == "pass"
    for one in lines:
        if one["kind"] == "request" and one["side"] == "vllm":
            one["last_us"] *= 50
    assert recompute(lines).result == "fail"


def test_pairs_are_added_until_it_stands_and_every_prompt_is_new(stage, monkeypatch):
    blocks = []
    monkeypatch.setattr(loadgate, "run_load", pretended(blocks, burst(), burst(ttft=99), apart=0.03))
    with pytest.raises(Inconclusive, match="output rate not decided"):
        loadgate.LoadGate(stage, MODEL).do()
    asked = [[(one.users, one.repeats, one.requests) for one in plan.levels] for plan in blocks]
    assert asked == [[(1, 0, 10), (3, 3, 22)], [(3, 2, 22)], [(3, 3, 60)]]
    assert len({plan.body("x") for plan in blocks}) == 3
    runs = [run.side for plan in blocks for run in plan.runs() if run.level.users == 3]
    assert runs == ["vllm", "ollama", "ollama", "vllm"] * 4
    verdict, _ = kept(stage)
    assert len(verdict["evidence"]["pairs"]) == 8


@pytest.mark.parametrize(("pairs", "blocks"), [(3, 1), (4, 1), (5, 2), (7, 2), (8, 3)])
def test_the_stack_file_bounds_the_pairs(stage, monkeypatch, pairs, blocks):
    stage.spec = parse_spec(SPEC.replace("max_tokens: 4", f"max_tokens: 4, pairs: {pairs}"))
    asked = []
    monkeypatch.setattr(loadgate, "run_load", pretended(asked, burst(), burst(), apart=0.03))
    with pytest.raises(Inconclusive):
        loadgate.LoadGate(stage, MODEL).do()
    assert len(asked) == blocks


def pretended(plans, old, new, apart=0.0005):
    """A load process that always finds the same; it keeps the plans."""

    def run(plan, _progress):
        plans.append(plan)
        made = [results(old, new, users=one.users, pairs=one.repeats or plan.repeats, apart=apart)
                for one in plan.levels]  # fmt: skip
        return replace(made[0], plan=plan, samples=[s for one in made for s in one.samples],
                       runs=[r for one in made for r in one.runs])  # fmt: skip

    return run


def test_no_run_begins_when_the_time_is_over(stage, monkeypatch):
    stage.spec = parse_spec(SPEC.replace("max_tokens: 4", "max_tokens: 4, budget: 1ms"))
    asked = []
    monkeypatch.setattr(loadgate, "run_load", pretended(asked, burst(), burst()))
    monkeypatch.setattr(loadgate.time, "monotonic", iter(range(100)).__next__)
    with pytest.raises(Inconclusive):
        loadgate.LoadGate(stage, MODEL).do()
    assert [plan.budget_s for plan in asked] == [pytest.approx(0.001)]


def test_a_peak_beyond_what_vllm_takes_is_run_once_and_does_not_judge(stage, monkeypatch):
    stage.facts = facts(40.0)
    plans = []
    monkeypatch.setattr(loadgate, "run_load", pretended(plans, burst(ttft=400), burst()))
    loadgate.LoadGate(stage, MODEL).do()
    assert [[(one.users, one.requests) for one in plan.levels] for plan in plans] == [
        [(1, 10), (3, 10), (40, 40), (8, 22)],
    ]  # fmt: skip
    assert kept(stage)[0]["evidence"]["judged_at"] == 8


def test_why_it_ended_early_is_said():
    cut = replace(results(burst(), burst(), pairs=1), stopped=[{"reason": "the test's time of 3 s was over"}])
    assert "the test's time of 3 s was over" in judge_load(cut).summary
    assert recompute(map(json.loads, cut.lines())) == judge_load(cut)


def facts(peak, source="log"):
    return Facts(OllamaFacts("http://o", "0.31.0"), traffic=Traffic(source=source, concurrency=Spread(9, 1, peak, peak, peak)))


@pytest.mark.parametrize(
    ("seen", "users", "origin"),
    [
        (None, 3, "load.users"), (facts(None), 3, "load.users"), (facts(float("nan")), 3, "load.users"),
        (facts(6.0), 6, "measured"), (facts(2.0, "stated"), 2, "stated"), (facts(40.0), 8, "measured"),
        (facts(0.0), 3, "load.users"),
    ],
)  # fmt: skip
def test_the_measured_peak_judges_as_far_as_vllm_takes_so_many(seen, users, origin):
    found = loadgate.judging_level(parse_spec(SPEC), MODEL, seen)
    assert (found["users"], found["origin"], found["limit"]) == (users, origin, 8)
    twice = parse_spec(SPEC.replace("max_num_seqs: 8", "max_num_seqs: 8, replicas: 2"))
    assert loadgate.judging_level(twice, MODEL, facts(40.0))["users"] == 16


# without Ollama beside it

GONE = {"side": "ollama", "number": 0, "outcome": "refused", "error": "nobody there"}


def alone(p95_ms, rate, users=10, **new):
    """vLLM alone, whose p95 is 210 ms and whose rate some 1,300 tokens/s, beside a baseline."""
    measured = results([], burst(**new))
    row = {"users": users, "p95_ms": p95_ms, "average_ms": p95_ms, "tokens_per_s": rate, "complete": 20}
    return replace(measured, warmups=[GONE], baseline=[{"at": 0.0, "levels": [row]}],
                   runs=[run for run in measured.runs if run["side"] == "vllm"])  # fmt: skip


@pytest.mark.parametrize(
    ("p95_ms", "rate", "result"),
    [(400, 100.0, "pass"), (60, 100.0, "fail"), (120, 100.0, "inconclusive"), (400, 1000.0, "inconclusive"),
     (400, 9000.0, "fail"), (None, 100.0, "inconclusive")],
)  # fmt: skip
def test_against_the_baseline_only_what_is_plain_is_a_verdict(p95_ms, rate, result):
    measured = alone(p95_ms, rate)
    verdict = judge_load(measured)
    assert verdict.result == result
    assert p95_ms is None or "confounded" in verdict.summary
    assert not wants_pairs(verdict.evidence)
    assert recompute(map(json.loads, measured.lines())) == verdict


def test_a_baseline_of_another_level_says_too_little():
    verdict = judge_load(alone(400, 100.0, users=7))
    assert verdict.result == "inconclusive"
    assert "nobody there" in verdict.summary
    assert "too little of 10 users" in verdict.summary


def test_beside_a_baseline_a_failure_of_vllm_is_still_one():
    measured = alone(400, 100.0)
    late = sample(outcome="timeout", token_us=[], last_us=None) | {"side": "vllm", "users": 10}
    assert named(judge_load(replace(measured, samples=[*measured.samples, late]))) == {"timeouts": "fail"}


# error rates of the two comparisons together, by simulation


def whole_test(dice, slower, spread):
    """Eight pairs of runs; a slow run has the longer p95 and the lower rate, each with a little of its own."""

    def run(level):
        level *= dice.lognormvariate(0, spread)
        return {"n": 60, "complete": 60, "p95_ms": 500 * level * dice.lognormvariate(0, spread / 3),
                "tokens_per_s": 900 / level * dice.lognormvariate(0, spread / 3)}  # fmt: skip

    pairs = [{"ollama": run(1.0), "vllm": run(slower)} for _ in range(8)]
    return compare_latency(pairs, 1.10, 8), compare_rate(pairs, 1.0, 8)


@pytest.mark.parametrize("spread", [0.03, 0.10])
def test_two_comparisons_fail_equal_servers_no_more_often_than_one_in_twenty(spread):
    dice, tests = random.Random(23), 800
    failed = sum(any(one.outcome == "worse" for one in whole_test(dice, 1.0, spread)) for _ in range(tests))
    assert failed / tests <= 0.05


@pytest.mark.parametrize("spread", [0.03, 0.10])
def test_a_slowdown_of_a_fifth_fails(spread):
    dice, tests = random.Random(29), 400
    failed = sum(any(one.outcome == "worse" for one in whole_test(dice, 1.2, spread)) for _ in range(tests))
    assert failed / tests >= 0.8


def test_the_rate_is_said_as_it_is_demanded():
    pairs = [{"ollama": {"n": 60, "complete": 60, "tokens_per_s": 100.0},
              "vllm": {"n": 60, "complete": 60, "tokens_per_s": 200.0 + n}} for n in range(3)]  # fmt: skip
    found = compare_rate(pairs, 1.5, 8)
    assert (found.outcome, found.bound) == ("not worse", 1.5)
    assert found.low < found.ratio == pytest.approx(2.01, abs=0.001)
    assert found.ratio < found.high
    assert compare_rate(pairs, 3.0, 8).outcome == "worse"
    assert compare_rate(pairs, 0.0, 8) is None
