"""The load gate: figures from known samples, the judgement, and the load process on real sockets."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_engine import Engine, Reply

from orchestrator.checks import Side
from orchestrator.checks.load import LoadResults, LoadThresholds, judge_load, recompute, run_load
from orchestrator.checks.loadmetrics import level_figures, limits
from orchestrator.checks.loadplan import JUDGING_N, Level, LoadPlan, closed_levels

SIDES = (Side("ollama", "http://127.0.0.1:1"), Side("vllm", "http://127.0.0.1:2", {"Authorization": "Bearer secret"}))
RUN = {"repeat": 0, "planned": 1, "sent": 1, "loop_lag_p99_ms": 0.5, "cpu_share": 0.1, "wall_s": 1.0}


def sample(ttft=100.0, gap=10.0, tokens=11, *, at=0.0, outcome="complete", **changed):
    """A request of known timing (ms): first token, equal gaps, and a last delta one gap after the last token."""
    stamps = [int((ttft + gap * n) * 1000) for n in range(tokens)]
    last = stamps[-1] + int(gap * 1000)
    base = {"at_us": int(at * 1000), "end_us": int(at * 1000) + last, "send_lag_us": 100, "headers_us": 500}
    base |= {"token_us": stamps, "last_us": last, "outcome": outcome, "status": 200, "error": None, "repeat": 0}
    return base | {"finish_reason": "length", "prompt_tokens": 9, "output_tokens": tokens, "retried": False} | changed


def test_figures_follow_their_definitions():
    figures = level_figures([sample(), sample(at=1000)], [RUN])
    assert figures["ttft_ms"]["p50"]["value"] is None
    assert figures["ttft_ms"]["p50"]["maximum"] == 100
    many = level_figures([sample(at=10 * n) for n in range(60)], [RUN])
    assert many["ttft_ms"]["p95"]["value"] == 100
    assert many["e2e_ms"]["p95"]["value"] == 210
    assert many["tpot_ms"]["p50"]["value"] == pytest.approx((210 - 100) / 10)
    assert (many["itl_ms"]["p50"]["value"], many["itl_ms"]["n"]) == (10, 600)
    assert many["window_s"] == pytest.approx(0.59 + 0.21)
    assert many["output_tokens_per_s"] == pytest.approx(660 / 0.8)
    assert many["requests_per_s"] == pytest.approx(60 / 0.8)


def test_percentiles_of_too_few_requests_are_not_given():
    figures = level_figures([sample() for _ in range(20)], [RUN])
    assert figures["e2e_ms"]["p95"]["value"] is None
    assert figures["e2e_ms"]["p95"]["note"] == "n too small"
    assert figures["e2e_ms"]["p50"]["value"] == 210


def test_tokens_without_usage_are_counted_and_marked():
    figures = level_figures([sample(output_tokens=None)], [RUN])
    assert (figures["output_tokens"], figures["tokens_estimated"]) == (11, True)


def test_failures_count_in_the_share_and_not_in_the_latency():
    samples = [sample(), sample(outcome="timeout", token_us=[], last_us=None, error="late")]
    figures = level_figures(samples, [RUN])
    assert (figures["n"], figures["complete"], figures["failed_share"]) == (2, 1, 0.5)
    assert figures["outcomes"] == {"complete": 1, "timeout": 1}
    assert figures["errors"] == [{"outcome": "timeout", "status": 200, "error": "late", "count": 1}]


def test_merged_tokens_are_counted():
    figures = level_figures([sample(token_us=[1000, 1000, 2000])], [RUN])
    assert figures["client"]["merged_share"] == 0.5


@pytest.mark.parametrize(
    "client, limited",
    [
        ({}, set()),
        ({"loop_lag_p99_ms": 3.0}, {"itl_ms"}),
        ({"loop_lag_p99_ms": 8.0}, {"itl_ms", "ttft_ms"}),
        ({"loop_lag_p99_ms": 40.0}, {"itl_ms", "ttft_ms", "e2e_ms"}),
        ({"send_lag_p99_ms": 20.0}, {"ttft_ms", "e2e_ms"}),
        ({"cpu_share": 0.9}, {"itl_ms", "ttft_ms", "e2e_ms"}),
    ],
)
def test_figures_that_the_client_may_have_distorted_are_named(client, limited):
    figures = level_figures([sample(at=10 * n) for n in range(60)], [RUN])
    figures["client"] |= client
    assert set(limits(figures)) == limited


# the plan


def test_levels_rise_and_the_highest_has_enough_to_judge():
    assert closed_levels((10, 1, 5, 5), 4) == (Level(1, 10), Level(5, 20), Level(10, JUDGING_N))
    assert closed_levels((1, 50), 4)[-1] == Level(50, 200)


def test_runs_alternate_the_sides():
    plan = LoadPlan(SIDES, "m", (Level(1, 2), Level(5, 10)), repeats=2)
    assert "".join(run.side[0] for run in plan.runs()) == "ovvoovvo"


def test_plan_survives_json():
    plan = LoadPlan(SIDES, "m", (Level(1, 2),))
    assert LoadPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_bodies_are_unique_in_their_first_characters_and_repeatable():
    plan = LoadPlan(SIDES, "m", ())
    first = [json.loads(plan.body(f"1/0/{n}"))["messages"][0]["content"][:18] for n in range(100)]
    assert len(set(first)) == 100
    assert plan.body("x") == plan.body("x")
    assert plan.body("x") != dataclasses.replace(plan, seed=2).body("x")


# the judgement


def results(old, new, users=10, warmups=(), pairs=3, apart=0.0005):
    """Results of one level; `old` and `new` are the samples of the sides, the same in every run but for `apart`."""
    samples, runs = [], []
    for repeat in range(pairs):
        place = {"users": users, "repeat": repeat}
        slower = 1 + apart * (repeat % 2)
        samples += [s | {"side": "ollama"} | place for s in old]
        samples += [longer(s, slower) | {"side": "vllm"} | place for s in new]
        runs += [RUN | {"side": side} | place for side in ("ollama", "vllm")]
    return LoadResults(LoadPlan(SIDES, "m", (Level(users, 60),)), samples, runs, warmups)


def longer(one, factor):
    times = {name: int(one[name] * factor) if one[name] is not None else None for name in ("at_us", "end_us", "last_us")}
    return one | times | {"token_us": [int(stamp * factor) for stamp in one["token_us"]]}


def burst(count=60, **kind):
    return [sample(at=5 * n, **kind) for n in range(count)]


def test_faster_and_fuller_passes_with_numbers():
    verdict = judge_load(results(burst(ttft=400, gap=20), burst()))
    assert verdict.result == "pass"
    comparison = verdict.evidence["comparison"]
    assert comparison["latency_p95_ratio"] == pytest.approx(210 / 620, rel=0.01)
    assert comparison["latency"]["low"] < 210 / 620 < comparison["latency"]["high"] < 0.5
    assert comparison["output_rate_ratio"] > 1
    assert "3 pairs" in verdict.summary
    assert [one["what"] for one in verdict.evidence["reasons"]] == ["latency", "output rate"]


def test_verdict_can_be_computed_again_from_the_written_lines():
    first = results(burst(ttft=400), burst())
    terms = LoadThresholds(1.2, 0.5, users=10, most_pairs=4)
    read = [json.loads(line) for line in first.lines(terms)]
    assert read[0]["check"] == "load"
    assert recompute(read) == judge_load(first, terms)
    assert recompute(iter(read)).to_json() == json.loads(json.dumps(judge_load(first, terms).to_json()))
    assert "secret" not in "".join(first.lines())
    with pytest.raises(ValueError, match="no plan"):
        recompute(read[1:])


@pytest.mark.parametrize("outcome", ["timeout", "error", "truncated", "refused"])
def test_one_failure_on_vllm_fails(outcome):
    bad = sample(outcome=outcome, token_us=[], last_us=None, error="why")
    verdict = judge_load(results(burst(), [*burst(), bad]))
    assert verdict.result == "fail"
    assert outcome in verdict.summary
    assert "why" in verdict.summary


def test_allowed_error_rate_allows_it():
    bad = sample(outcome="error", token_us=[], last_us=None)
    assert judge_load(results(burst(), [*burst(), bad]), LoadThresholds(error_rate=0.05)).result != "fail"


def test_slower_than_the_factor_fails():
    slow = judge_load(results(burst(), burst(ttft=300, gap=10)))
    assert slow.result == "fail"
    assert "too slow" in slow.summary
    assert judge_load(results(burst(), burst(ttft=300)), LoadThresholds(2.5, 0.1)).result == "pass"


def test_less_throughput_fails():
    spread = [sample(at=50 * n) for n in range(60)]
    verdict = judge_load(results(burst(), spread))
    assert verdict.result == "fail"
    assert "throughput" in verdict.summary


def lagging(samples, ms=50):
    return [one | {"send_lag_us": ms * 1000} for one in samples]


@pytest.mark.parametrize(
    "old, new, words",
    [
        (burst(19), burst(19), "a p95 needs 60"),
        (burst(), burst(tokens=2), "unequal work"),
        (burst(tokens=2), burst(), "unequal work"),
        (burst(), lagging(burst(ttft=300, gap=10)), "bottleneck on vllm"),
        ([], burst(), "ollama completed 0"),
    ],
    ids=["few", "shorter and fast", "longer and slow", "late on vllm", "no baseline"],
)
def test_no_verdict_where_the_numbers_do_not_carry_one(old, new, words):
    verdict = judge_load(results(old, new))
    assert verdict.result == "inconclusive"
    assert words in verdict.summary


def test_a_late_client_does_not_spoil_a_pass_that_it_only_made_harder():
    assert judge_load(results(burst(), lagging(burst(ttft=80)))).result == "pass"


def test_a_late_client_spoils_a_pass_that_only_ollamas_lateness_allows():
    terms = LoadThresholds(1.5, 0.1)
    assert judge_load(results(burst(), burst(ttft=180)), terms).result == "pass"
    verdict = judge_load(results(lagging(burst()), burst(ttft=180)), terms)
    assert verdict.result == "inconclusive"
    assert "bottleneck on ollama" in verdict.summary


def test_an_ollama_that_cannot_keep_up_is_no_obstacle():
    late = [sample(outcome="timeout", token_us=[], last_us=None, at=5 * n) for n in range(10)]
    verdict = judge_load(results([*burst(50), *late], burst(ttft=80)))
    assert verdict.result == "pass"
    assert verdict.evidence["comparison"]["latency_p95_ratio"] is None


@pytest.mark.parametrize("side, result", [("vllm", "fail"), ("ollama", "inconclusive")])
def test_failed_warm_up(side, result):
    warmup = {"side": side, "number": 0, "outcome": "refused", "error": "nobody there"}
    verdict = judge_load(results(burst(), burst(), warmups=[warmup]))
    assert (verdict.result, "nobody there" in verdict.summary) == (result, True)


# the process


def plan_for(old, new, **changed):
    sides = (Side("ollama", old.url), Side("vllm", new.url, {"Authorization": "Bearer t"}))
    defaults = {"levels": (Level(1, 3), Level(4, 12)), "max_tokens": 5, "timeout_s": 10.0, "warmup": 1}
    return LoadPlan(sides, "m:1", **(defaults | changed))


def reply(body):
    return Reply(tokens=["x"] * body["max_tokens"], gap_s=0.002)


def test_both_sides_get_the_same_unique_work_and_every_stamp_is_kept():
    with Engine(reply) as old, Engine(reply) as new:
        measured = run_load(plan_for(old, new))
    texts = [body["messages"][0]["content"] for body in old.bodies]
    assert sorted(texts) == sorted(body["messages"][0]["content"] for body in new.bodies)
    assert len(set(texts)) == len(texts) == 1 + 2 + 3 + 12
    assert new.headers[0]["authorization"] == "bearer t"
    assert [(s["side"], s["users"]) for s in measured.samples].count(("vllm", 4)) == 12
    for one in measured.samples:
        assert one["outcome"] == "complete"
        assert len(one["token_us"]) == one["output_tokens"] == 5
        assert 0 < one["headers_us"] <= one["token_us"][0]
        assert one["token_us"] == sorted(one["token_us"])
        assert one["token_us"][-1] <= one["last_us"] <= one["end_us"] - one["at_us"]
    figures = measured.figures("vllm", 4)
    assert figures["output_tokens"] == 60
    assert figures["client"]["unsent"] == 0


def test_never_more_at_once_than_users():
    running, peak = [0], [0]

    def behave(body):
        running[0] += 1
        peak[0] = max(peak[0], running[0])
        return reply(body)

    with Engine(behave) as old, Engine(reply) as new:
        old.on_end = lambda: running.__setitem__(0, running[0] - 1)
        run_load(plan_for(old, new, levels=(Level(3, 15),)))
    assert 2 <= peak[0] <= 3


@pytest.mark.parametrize(
    "bad, outcome",
    [
        (Reply(status=500, error="boom"), "error"),
        (Reply(error="engine died"), "error"),
        (Reply(done=False), "truncated"),
        (Reply(cut=True), "truncated"),
        (Reply(hang=True), "timeout"),
    ],
)
def test_outcomes_are_told_apart(bad, outcome):
    def behave(body):
        behave.count += 1
        return bad if behave.count == 5 else reply(body)

    behave.count = 0
    with Engine(reply) as old, Engine(behave) as new:
        measured = run_load(plan_for(old, new, levels=(Level(1, 5),), timeout_s=1.0))
    assert measured.figures("vllm", 1)["outcomes"] == {"complete": 4, outcome: 1}
    assert judge_load(measured).result == "fail"


def test_a_side_that_is_not_there_fails_the_warm_up_and_is_left_alone():
    with Engine() as gone:
        pass
    with Engine(reply) as old:
        measured = run_load(plan_for(old, gone))
    assert [(w["side"], w["outcome"]) for w in measured.warmups] == [("ollama", "complete"), ("vllm", "refused")]
    assert {s["side"] for s in measured.samples} == {"ollama"}
    assert judge_load(measured).result == "fail"


def test_a_level_stops_beginning_requests_when_its_time_is_up():
    with Engine(reply) as old, Engine(reply) as new:
        measured = run_load(plan_for(old, new, levels=(Level(1, 50),), level_s=0.0))
    assert len(measured.samples) == 0
    assert measured.figures("vllm", 1)["client"]["unsent"] == 50
    assert judge_load(measured).result == "inconclusive"


def test_progress_is_told_while_it_runs():
    seen = []
    with Engine(lambda _: Reply(gap_s=0.05)) as old, Engine(reply) as new:
        run_load(plan_for(old, new, levels=(Level(1, 3),)), seen.append)
    assert seen
    assert {(entry["phase"], entry["of"]) for entry in seen} <= {("warm-up", 1), ("level", 3)}
    assert all(entry["done"] <= entry["of"] and entry["users"] == 1 for entry in seen)


PARENT = """
import json, sys
from orchestrator.checks.load import run_load
from orchestrator.checks.loadplan import LoadPlan
run_load(LoadPlan.from_json(json.loads(sys.argv[1])))
"""


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(condition, what):
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail(f"never happened: {what}")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_the_load_process_ends_with_a_killed_parent():
    with Engine(lambda _: Reply(hang=True)) as old, Engine() as new:
        plan = json.dumps(plan_for(old, new, timeout_s=120.0).to_json())
        parent = subprocess.Popen([sys.executable, "-c", PARENT, plan])
        wait_for(lambda: old.bodies, "the first request")
        (child,) = children(parent.pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        wait_for(lambda: not alive(child), "the end of the load process")


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_progress_may_end_the_run_even_while_nothing_moves():
    class Stop(Exception):
        pass

    def stop(_):
        raise Stop

    with Engine(lambda _: Reply(hang=True)) as old, Engine() as new, pytest.raises(Stop):
        run_load(plan_for(old, new, timeout_s=120.0), stop)
