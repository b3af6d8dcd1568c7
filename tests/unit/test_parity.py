"""Smoke parity: the rules on records, the run on real sockets, and the prompts file."""

from __future__ import annotations

import json

import pytest
from fake_engine import Engine, Reply

from orchestrator.checks import Side
from orchestrator.checks.parity import check_parity, judge_parity, rejudge
from orchestrator.checks.parity_rules import Pair, Record, Terms
from orchestrator.checks.prompts import load_prompts, parse_prompts
from orchestrator.errors import UsageError

GOOD = {"status": 200, "text": "Paris", "finish_reason": "stop", "model": "m:1", "prompt_tokens": 9, "output_tokens": 2}
LONG = GOOD | {"output_tokens": 20, "increments": 20, "arrivals": 15}


def judge(new=None, old=None, *, mode="plain", base=GOOD, similarity=None, names=(), **prompt):
    pair = Pair("p", mode, Record(**{**base, **(old or {})}), Record(**{**base, **(new or {})}), **prompt)
    return judge_parity([pair], Terms("m:1", names, similarity))


def test_equal_answers_pass_and_the_evidence_is_json():
    verdict = judge()
    assert verdict.result == "pass"
    assert json.loads(json.dumps(verdict.to_json()))["evidence"]["pairs"][0]["similarity"] == 1.0


@pytest.mark.parametrize(
    "change, rule",
    [
        ({"new": {"status": 400, "error": "bad"}}, "status"),
        ({"new": {"ending": "truncated"}}, "ending"),
        ({"new": {"ending": "error", "error": "boom"}}, "ending"),
        ({"new": {"finish_reason": "length"}}, "finish_reason"),
        ({"new": {"text": "Rome", "finish_reason": "length"}, "similarity": 0.0}, "finish_reason"),
        ({"expect_finish": "length"}, "finish_reason"),
        ({"new": {"text": ""}}, "empty"),
        ({"new": {"text": "1,2,3,4,5,6"}, "params": {"stop": ["5"]}}, "stop"),
        ({"new": {"text": "1,2,5"}, "params": {"stop": "5"}}, "stop"),
        (
            {
                "new": {"text": "Sure: {}"},
                "old": {"text": "{}"},
                "params": {"response_format": {"type": "json_object"}},
            },
            "json",
        ),
        ({"new": {"output_tokens": None}}, "usage"),
        ({"new": {"model": "org/other"}}, "model"),
        ({"new": {"model": None}}, "model"),
        ({"mode": "stream", "base": LONG, "new": {"increments": 1}}, "streaming"),
        ({"mode": "stream", "base": LONG, "new": {"arrivals": 1}}, "buffered"),
        ({"new": {"text": "Parix"}, "similarity": 1.0}, "similarity"),
    ],
)
def test_each_difference_fails_by_its_own_rule(change, rule):
    verdict = judge(**change)
    assert verdict.result == "fail"
    assert {f["what"] for f in verdict.evidence["findings"] if f["level"] == "fail"} == {rule}


@pytest.mark.parametrize(
    "change",
    [
        {"new": {"text": "The capital is Paris.", "finish_reason": "length"}},
        {"new": {"prompt_tokens": 11}},
        {"old": {"text": ""}},
        {"old": {"ending": "truncated"}},
        {"new": {"text": "1,5"}, "old": {"text": "1,5"}, "params": {"stop": ["5"]}},
    ],
    ids=["other end", "other template", "only Ollama empty", "Ollama truncated", "both ignore stop"],
)
def test_what_no_caller_of_vllm_would_miss_is_a_note(change):
    verdict = judge(**change)
    assert verdict.result == "pass"
    assert [f["level"] for f in verdict.evidence["findings"]] == ["note"]


@pytest.mark.parametrize("new", [{}, {"text": ""}, {"status": 404}])
def test_the_verdict_follows_from_its_evidence(new):
    verdict = judge(new, similarity=1.0, names=("Org/M",), params={"stop": ["x"]})
    assert rejudge(json.loads(json.dumps(verdict.evidence))) == verdict


@pytest.mark.parametrize("new", [{"model": "registry.ollama.ai/library/M:1"}, {"model": "org/m"}])
def test_accepted_names_may_be_echoed(new):
    assert judge(new, names=("Org/M",)).result == "pass"


def test_similarity_is_reported_and_not_judged_without_a_threshold():
    verdict = judge({"text": "something else"})
    assert verdict.result == "pass"
    assert verdict.evidence["similarity_mean"] < 0.6


def test_a_stream_that_was_joined_once_is_a_note():
    whole, joined = Record(**LONG), Record(**LONG | {"increments": 1, "arrivals": 1})
    pairs = [Pair(str(n), "stream", whole, joined if n == 0 else whole) for n in range(4)]
    verdict = judge_parity(pairs, Terms("m:1"))
    assert verdict.result == "pass"
    assert [(f["prompt"], f["what"], f["level"]) for f in verdict.evidence["findings"]] == [("0", "streaming", "note")]
    assert judge_parity(pairs[:2], Terms("m:1")).result == "pass"
    assert judge_parity(pairs[:1], Terms("m:1")).result == "fail"


def test_merged_short_streams_are_not_called_buffered():
    short = GOOD | {"output_tokens": 3, "increments": 3, "arrivals": 1}
    assert judge(mode="stream", base=short).result == "pass"


def test_nothing_answered_by_both_is_no_pass():
    assert judge({"status": 404}, {"status": 404}).result == "inconclusive"


# the run


def run(old, new, **options):
    sides = Side("ollama", old.url, {"Authorization": "Bearer t"}), Side("vllm", new.url, {"Authorization": "Bearer t"})
    return check_parity(*sides, "m:1", timeout_s=options.pop("timeout_s", 5), **options)


def answer(body):
    limit = min(body["max_tokens"], 12)
    return Reply(tokens=[f"{i} " for i in range(10, 10 + limit)], finish="length")


def test_two_equal_engines_pass_with_equal_weights_demanded():
    seen = []
    with Engine(answer) as old, Engine(answer) as new:
        verdict = run(old, new, similarity=1.0, max_tokens=12, progress=lambda *step: seen.append(step))
    assert verdict.result == "pass", verdict.summary
    prompts = load_prompts()
    assert len(verdict.evidence["pairs"]) == 2 * len(prompts)
    assert seen[0] == (0, len(prompts), prompts[0].id)
    assert seen[-1] == (len(prompts) - 1, len(prompts), prompts[-1].id)
    assert {h["authorization"] for h in new.headers} == {"bearer t"}
    assert all(body["temperature"] == 0 and "seed" in body and body["max_tokens"] <= 12 for body in new.bodies)
    assert {body["stream"] for body in new.bodies} == {True, False}


@pytest.mark.parametrize(
    "reply, words",
    [
        (Reply(status=400, error="unsupported"), "vLLM 400: unsupported"),
        (Reply(done=False), "truncated"),
        (Reply(error="engine died"), "engine died"),
        (Reply(model="other"), "other"),
        (Reply(tokens=[]), "empty"),
        (Reply(usage=False), "usage"),
        (Reply(cut=True), "truncated"),
    ],
)
def test_a_worse_engine_fails_and_the_reason_is_said(reply, words):
    prompts = parse_prompts("[{id: a, messages: [{role: user, content: x}]}]", "p")
    with Engine(lambda _: Reply()) as old, Engine(lambda _: reply) as new:
        verdict = run(old, new, prompts=prompts)
    assert verdict.result == "fail"
    assert words in json.dumps(verdict.evidence["findings"])


def test_a_side_that_was_never_there_is_inconclusive():
    with Engine() as old, Engine() as gone:
        pass
    verdict = run(old, gone)
    assert (verdict.result, verdict.evidence["lost"]["side"]) == ("inconclusive", "ollama")


@pytest.mark.parametrize("reply", [Reply(status=502), Reply(hang=True)])
def test_an_engine_that_is_lost_on_the_way_fails(reply):
    replies = iter([Reply(), Reply()])
    with Engine() as old, Engine(lambda _: next(replies, reply)) as new:
        verdict = run(old, new, timeout_s=0.5)
    assert verdict.result == "fail"
    assert verdict.evidence["lost"]["side"] == "vllm"
    assert rejudge(json.loads(json.dumps(verdict.evidence))).result == "fail"
    assert len(verdict.evidence["pairs"]) == 2


def test_progress_may_end_the_check_while_a_side_is_silent():
    class Stop(Exception):
        pass

    calls = []

    def stop(*_):
        calls.append(1)
        if len(calls) > 1:
            raise Stop

    with Engine() as old, Engine(lambda _: Reply(hang=True)) as new, pytest.raises(Stop):
        run(old, new, timeout_s=120, progress=stop)


# the prompts file


def test_built_in_prompts_cover_the_cases():
    prompts = {prompt.id: prompt for prompt in load_prompts()}
    assert 8 <= len(prompts) <= 12
    assert any(p.messages[0].role == "system" for p in prompts.values())
    assert any(len(p.messages) > 2 for p in prompts.values())
    assert {"stop", "response_format", "max_tokens"} <= {key for p in prompts.values() for key in p.params}


def test_all_mistakes_of_a_file_are_named_at_once(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        """
- {id: a, messages: [{role: robot, content: hi}]}
- {id: b, mesages: []}
- {id: c, messages: [{role: user, content: hi}], params: {model: x, stream: true}}
"""
    )
    with pytest.raises(UsageError) as caught:
        load_prompts(path)
    assert "mine.yaml" in caught.value.message
    for place in ("[0].messages[0].role", "[1].mesages", "[1].messages", "[2].params"):
        assert place in caught.value.evidence


@pytest.mark.parametrize(
    "text, words",
    [("a: [", "while parsing"), ("hello", "file"), ("[]", "no prompts"), ("", "file")],
)
def test_files_that_hold_no_prompts(text, words):
    with pytest.raises(UsageError) as caught:
        parse_prompts(text, "p.yaml")
    assert words in caught.value.evidence


def test_ids_are_unique():
    entry = "{id: a, messages: [{role: user, content: x}]}"
    with pytest.raises(UsageError) as caught:
        parse_prompts(f"[{entry}, {entry}]", "p.yaml")
    assert "a" in caught.value.evidence


def test_environment_names_the_file(monkeypatch, tmp_path):
    path = tmp_path / "env.yaml"
    path.write_text("[{id: mine, messages: [{role: user, content: x}]}]")
    monkeypatch.setenv("PARITY_PROMPTS", str(path))
    assert [p.id for p in load_prompts()] == ["mine"]
    monkeypatch.setenv("PARITY_PROMPTS", str(tmp_path / "absent.yaml"))
    with pytest.raises(UsageError, match=r"absent\.yaml"):
        load_prompts()
