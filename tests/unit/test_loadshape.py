"""Shapes of load: schedules, lengths, replay, backlog, goodput, saturation; figures from known samples."""

from __future__ import annotations

import itertools
import json
import random

import pytest
from test_load import RUN, SIDES, sample

from orchestrator.checks.loadgoodput import goodput
from orchestrator.checks.loadlengths import Lengths, quantile_points, words
from orchestrator.checks.loadmetrics import level_figures
from orchestrator.checks.loadopen import backlog, grows, unseen
from orchestrator.checks.loadplan import Captured, LoadPlan
from orchestrator.checks.loadpoll import read_page
from orchestrator.checks.loadreplay import read, wire_body
from orchestrator.checks.loadsaturation import ceiling, engine_figures
from orchestrator.checks.loadshape import Level, open_level
from orchestrator.errors import UsageError

SECOND = 10**9


# schedules


def test_constant_is_absolute_and_even():
    due = open_level("constant", 20, 3).due_ns(1)
    assert len(due) == 60
    assert {later - earlier for earlier, later in itertools.pairwise(due)} == {SECOND // 20}


def test_poisson_has_its_rate_its_spread_and_its_seed():
    level = open_level("poisson", 50, 40)
    due = level.due_ns(1)
    gaps = [later - earlier for earlier, later in itertools.pairwise(due)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(SECOND / 50, rel=0.1)
    assert spread == pytest.approx(mean, rel=0.15)
    assert level.due_ns(1) == due != level.due_ns(2)


@pytest.mark.parametrize("first, last", [(1, 9), (9, 1), (4, 4), (0.5, 0.5000001)])
def test_a_ramp_moves_its_rate_evenly_and_lasts_as_long_as_asked(first, last):
    due = open_level("ramp", first, 100, last).due_ns(1)
    assert list(due) == sorted(due)
    assert due[-1] / SECOND == pytest.approx(100, rel=0.05)
    half = sum(at < 50 * SECOND for at in due)
    assert half == pytest.approx((first + (first + last) / 2) / 2 * 50, abs=2)


@pytest.mark.parametrize("shape, rate, duration, to", [("constant", 0, 1, 0), ("poisson", 1, 0, 0), ("ramp", 1, 1, 0)])
def test_a_level_of_nothing_is_refused(shape, rate, duration, to):
    with pytest.raises(ValueError, match="above 0"):
        open_level(shape, rate, duration, to)


def test_replay_keeps_its_instants_at_its_speed():
    assert list(Level(0, 3, "replay", 2.0).due_ns(1, [0.0, 1.0, 5.0])) == [0, SECOND // 2, SECOND * 5 // 2]


def test_labels_tell_levels_apart():
    levels = [Level(1, 1), Level(5, 1), open_level("constant", 5, 1), open_level("poisson", 5, 1),
              open_level("ramp", 1, 1, 5), Level(0, 1, "replay", 1), Level(0, 1, "replay", 2)]  # fmt: skip
    assert len({level.label for level in levels}) == len(levels)


def test_every_kind_of_plan_survives_json():
    plan = LoadPlan(
        SIDES, "m", (Level(1, 2), open_level("ramp", 1, 2, 3)), lengths=Lengths(((0.5, 10), (0.95, 100)), pairs=((1, 2),)),
        slo={"ttft": 100.0}, captured=Captured("f", "d", 3), replicas=("a", "b"),
    )  # fmt: skip
    assert LoadPlan.from_json(json.loads(json.dumps(plan.to_json() | {"kind": "plan", "later": 1}))) == plan


# lengths


def test_drawn_lengths_follow_the_quantiles():
    lengths = Lengths(quantile_points({"p50": 100, "p95": 1000, "max": 2000}), quantile_points({"p50": 50}))
    rng = random.Random(1)
    drawn = [lengths.draw(rng) for _ in range(4000)]
    prompts = [prompt for prompt, _ in drawn]
    assert sum(one <= 100 for one in prompts) / 4000 == pytest.approx(0.5, abs=0.03)
    assert sum(one <= 1000 for one in prompts) / 4000 == pytest.approx(0.95, abs=0.02)
    assert max(prompts) <= 2000
    assert max(output for _, output in drawn) == 50
    assert lengths.draw(random.Random(7)) == lengths.draw(random.Random(7))


def test_pairs_stay_pairs_and_an_axis_may_be_left_open():
    assert {Lengths(pairs=((1, 2), (3, 4))).draw(random.Random(n)) for n in range(50)} == {(1, 2), (3, 4)}
    assert Lengths(output=((1.0, 5),)).draw(random.Random(1))[0] is None


def test_falling_quantiles_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        quantile_points({"p50": 100, "p95": 10})


def test_bodies_take_their_lengths_and_share_them_between_sides():
    plan = LoadPlan(SIDES, "m", (), lengths=Lengths(((0.0, 500), (1.0, 500)), ((0.0, 7), (1.0, 7))))
    body = json.loads(plan.body("k"))
    assert body["max_tokens"] == 7
    assert 450 <= len(body["messages"][0]["content"].split()) <= 500
    assert len(words(random.Random(1), 1).split()) == 1
    shared = LoadPlan(SIDES, "m", (), unique=False, prompts=("one",))
    assert json.loads(shared.body("a"))["messages"] == json.loads(shared.body("b"))["messages"]


# replay

CAPTURED = [
    {"at": 12.5, "body": {"model": "x", "messages": [{"role": "user", "content": "b"}], "max_tokens": 3, "user": "u"}},
    {"at": 10, "path": "/api/generate", "body": {"prompt": "a", "system": "s", "options": {"num_predict": 9, "seed": 1}}},
    {"at": 11.0, "body": '{"messages": [{"role": "user", "content": "c"}], "stream": false}'},
]


def test_captured_traffic_is_read_in_its_order(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text("\ufeff" + "\r\n".join(json.dumps(one) for one in CAPTURED) + "\n\n")
    requests, captured = read(path)
    assert [one.at for one in requests] == [0.0, 1.0, 2.5]
    assert requests[0].body == {
        "max_tokens": 9, "seed": 1,
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}],
    }  # fmt: skip
    sent = json.loads(wire_body(requests[1], "m:1"))
    assert (sent["model"], sent["stream"], sent["messages"][0]["content"]) == ("m:1", True, "c")
    assert "user" not in json.loads(wire_body(requests[2], "m:1"))
    assert captured.count == 3
    path.write_text(json.dumps(CAPTURED[0]))
    with pytest.raises(UsageError, match="changed"):
        read(path, captured.digest)


def test_times_may_be_iso(tmp_path):
    path = tmp_path / "t.jsonl"
    body = {"messages": [{"role": "user", "content": "b"}]}
    times = ("2026-01-01T00:00:01Z", "2026-01-01T00:00:00.5", "2026-01-01T01:00:03+01:00")
    path.write_text("\n".join(json.dumps({"at": at, "body": body}) for at in times))
    assert [one.at for one in read(path)[0]] == [0.0, 0.5, 2.5]


def test_every_bad_line_is_told_at_once(tmp_path):
    path = tmp_path / "t.jsonl"
    lines = ["{", "[]", '{"at": 1}', '{"at": "soon", "body": {"prompt": "x"}}', '{"at": NaN, "body": {"prompt": "x"}}',
             '{"at": true, "body": {"prompt": "x"}}', '{"at": 1, "body": {"messages": []}}', '{"at": 1, "body": "x"}',
             "[" * 100000, '{"at": 1, "body": {"messages": ["x"]}}']  # fmt: skip
    path.write_text("\n".join([*lines, json.dumps(CAPTURED[0])]))
    with pytest.raises(UsageError, match="10 bad lines") as told:
        read(path)
    assert [line.split(":")[0] for line in told.value.evidence.splitlines()] == [f"line {n}" for n in range(1, 11)]


def test_an_empty_file_and_none_at_all_are_told(tmp_path):
    (tmp_path / "e.jsonl").write_text("\n")
    with pytest.raises(UsageError, match="no request"):
        read(tmp_path / "e.jsonl")
    with pytest.raises(UsageError, match="cannot read"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(UsageError, match="cannot read"):
        read(tmp_path)


# open loop, from samples

OPEN = RUN | {"shape": "constant"}


def arrivals(rate, seconds, service_ms, *, lag_ms=lambda at: 0.0):
    """Requests at a constant rate; `lag_ms` says how long one that was due at `at` (ms) waited to be sent."""
    made = []
    for number in range(int(rate * seconds)):
        due = number / rate * 1000
        lag = lag_ms(due)
        one = sample(ttft=service_ms(due), gap=10.0, tokens=5, at=due + lag, shape="constant")
        made.append(one | {"send_lag_us": int(lag * 1000)})
    return made


def test_open_loop_counts_latency_from_when_a_request_was_due():
    figures = level_figures(arrivals(50, 4, lambda _: 100.0, lag_ms=lambda at: 70.0), [OPEN])
    assert figures["ttft_ms"]["p50"]["value"] == pytest.approx(170)
    assert figures["ttft_sent_ms"]["p50"]["value"] == pytest.approx(100)
    assert figures["overloaded"] == ""
    assert figures["offered_per_s"] == pytest.approx(50)


def test_a_stall_that_is_caught_up_with_shows_and_is_no_overload():
    """3 s of 60 in which nothing is answered: those that came meanwhile waited for its end."""
    def service(due):
        return 200.0 + max(0.0, 13_000 - due if due >= 10_000 else 0.0)

    figures = level_figures(arrivals(20, 60, service), [OPEN])
    assert figures["overloaded"] == ""
    assert figures["ttft_ms"]["p95"]["value"] > 200
    assert figures["ttft_ms"]["p99"]["value"] > 2_000
    assert figures["in_flight"]["most"] >= 60


def test_a_rate_above_capacity_is_named_instead_of_a_percentile():
    """20 a second against a server that answers 10: each waits for all before it."""
    figures = level_figures(arrivals(20, 30, lambda due: 200 + due), [OPEN])
    assert "grew" in figures["overloaded"]
    assert figures["ttft_ms"]["p95"]["value"] is None
    assert figures["ttft_ms"]["p95"]["note"] == "overloaded"
    assert figures["in_flight"]["per_s"] == pytest.approx(10, rel=0.3)


def test_what_could_not_be_sent_fails_the_level():
    figures = level_figures(arrivals(50, 4, lambda _: 100.0), [OPEN | {"not_sent": 3}])
    assert "3 requests could not be sent" in figures["overloaded"]


@pytest.mark.parametrize("seed", range(20))
def test_chance_is_no_backlog(seed):
    rng, at, steady = random.Random(seed), 0.0, []
    for _ in range(600):
        at += rng.expovariate(10) * 1000
        steady.append(sample(ttft=rng.lognormvariate(6, 0.5), at=at, shape="poisson"))
    assert not grows(backlog(steady))


def test_closed_loop_says_what_it_cannot_see():
    calm = [sample(at=300 * n) for n in range(200)]
    figures = level_figures([*calm, sample(ttft=3_200, at=70_000)], [RUN])
    assert figures["e2e_ms"]["p95"]["value"] < 300
    assert figures["unseen"]["pause_ms"] > 2_900
    assert figures["unseen"]["requests"] >= 10
    assert "would have been sent" in figures["unseen"]["text"]
    assert unseen(calm)["requests"] == 0
    assert unseen([])["pause_ms"] == 0


# goodput


def test_goodput_wants_every_objective_and_counts_failures():
    good, late = sample(), sample(ttft=900)
    stalled = sample(token_us=[100_000, 110_000, 900_000], last_us=900_000, output_tokens=3)
    failed = sample(outcome="timeout", token_us=[], last_us=None)
    found = goodput([good, late, stalled, failed], {"ttft": 500, "itl_max": 200, "e2e": 950}, 2.0)
    assert (found["met"], found["n"], found["per_s"]) == (1, 4, 0.5)
    assert found["missed"] == {"ttft": 1, "itl_max": 1, "e2e": 1}
    assert 0 < found["interval"][0] < 0.25 < found["interval"][1]


def test_tpot_of_one_token_is_nothing():
    one = sample(tokens=1)
    assert goodput([one], {"tpot": 0.001}, 1.0)["met"] == 1
    assert goodput([sample()], {"tpot": 10.9}, 1.0)["met"] == 0
    assert goodput([sample()], {"tpot": 11.1}, 1.0)["met"] == 1


def test_the_objectives_travel_in_the_level_line():
    figures = level_figures([sample()], [RUN | {"slo": {"ttft": 50.0}}])
    assert figures["goodput"]["missed"] == {"ttft": 1}
    assert level_figures([sample()], [RUN])["goodput"] is None


# saturation

PAGE = b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a b} c"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 2.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 9.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.5
vllm:num_preemptions_total{engine="0"} 4.0
vllm:num_preemptions_created{engine="0"} 1.7e+09
vllm:prefix_cache_queries_total{engine="0"} 1e+03
"""


def test_an_engines_page_is_read_by_exact_names():
    assert read_page(PAGE) == {
        "running": 5.0, "waiting": 1.0, "kv": 0.5, "preemptions": 4.0, "cache_queries": 1000.0, "cache_hits": None,
    }  # fmt: skip
    assert set(read_page(b"<html>no</html>").values()) == {None}
    assert read_page(b"vllm:num_requests_running NaN\n")["running"] is None


def test_counters_are_differences_and_a_restart_begins_anew():
    polls = [[{"preemptions": 5.0, "running": 1.0}, {"preemptions": 7.0, "running": 4.0}, {"preemptions": 1.0}]]
    assert engine_figures(polls)["preemptions"] == 3.0
    assert engine_figures(polls)["running_max"] == 4.0
    assert engine_figures([[]]) is None


def at(users, rate, running, *, waiting=0, kv=0.2, preempted=0, share=None):
    engine = {"running_max": running, "waiting_max": waiting, "kv_max": kv, "preemptions": preempted}
    goodput_ = {"share": share} if share is not None else None
    return {"users": users, "complete": 60, "output_tokens_per_s": rate, "engine": engine, "goodput": goodput_}


@pytest.mark.parametrize(
    "levels, bound, proposed",
    [
        ([at(1, 50, 1), at(8, 300, 8), at(16, 500, 16)], "", 16),
        ([at(8, 300, 8), at(16, 500, 12, waiting=4, kv=0.99)], "kv", 8),
        ([at(8, 300, 8), at(16, 500, 16, preempted=2)], "kv", 8),
        ([at(16, 500, 16, preempted=2)], "kv", 14),
        ([at(8, 300, 8), at(16, 500, 16), at(32, 700, 16, waiting=16, kv=0.4)], "sequences", 32),
        ([at(8, 300, 8), at(16, 500, 16), at(32, 700, 16, waiting=16, kv=0.8)], "sequences", 18),
        ([at(2, 200, 2), at(4, 400, 4), at(8, 405, 8)], "compute", 4),
        ([at(2, 200, 2, share=1.0), at(4, 400, 4, share=0.97), at(8, 700, 8, share=0.4)], "slo", 4),
        ([], "", 16),
    ],
)
def test_the_ceiling_names_its_bound_and_what_follows(levels, bound, proposed):
    found = ceiling(levels, 16)
    assert (found["bound"], found["proposed"]) == (bound, proposed)
    assert "max_num_seqs 16" in found["text"]
