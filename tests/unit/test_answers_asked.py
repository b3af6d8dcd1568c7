"""Both sides are asked over real sockets: what is sent, how often, how many at once, and what planted faults come to."""

from __future__ import annotations

import json
import random
import threading

import pytest
from fake_engine import Engine, Reply

from orchestrator.checks import Side
from orchestrator.checks.answers.ask import Manner, read_reply, stop_word
from orchestrator.checks.answers.builtin import builtin_suite
from orchestrator.checks.answers.case import EQUAL, Case
from orchestrator.checks.answers.terms import Terms
from orchestrator.checks.answers.whole import measure_parity, recompute
from orchestrator.checks.parity_rules import Terms as SmokeTerms
from orchestrator.checks.prompts import load_prompts, parse_prompts

WORDS = ("amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath", "islet", "juniper")
SMOKE = "[{id: a, messages: [{role: user, content: x}]}]"
CASE = Case("g/one", "facts", ({"role": "user", "content": "Say yes"},), asserts=({"type": "contains", "value": "yes"},))


def model(seed=0, temperature=1.0, obeys=True):
    """A model that knows some answers, obeys stop words, and varies when it is told nothing."""
    rng = random.Random()
    known = {case.messages[-1]["content"]: case for case in builtin_suite()}

    def say(body):
        asked = body["messages"][-1]["content"]
        case = known.get(asked)
        chosen = random.Random(f"{seed}{asked}")
        if body.get("temperature", temperature):
            chosen = rng
        rule = next((one for one in case.asserts if one["type"].startswith(("icontains", "number"))), None) if case else None
        words = [f"{word} " for word in chosen.choices(WORDS, k=8)]
        if rule and not seed:
            value = rule["value"]
            words = [str(value[0] if isinstance(value, list) else value), "."]
        text = "".join(words)
        stops = body.get("stop") or []
        at = min((text.find(stop) for stop in stops if stop in text), default=-1)
        if at >= 0 and obeys:
            return Reply(tokens=[text[:at]], finish="stop")
        return Reply(tokens=words[: body["max_tokens"]], finish="length" if len(words) > body["max_tokens"] else "stop")

    return say


def run(old, new, suite=None, **more):
    terms = more.pop("terms", Terms())
    sides = Side("ollama", old.url, {"Authorization": "Bearer t"}), Side("vllm", new.url)
    lines = measure_parity(
        *sides, "m:1", prompts=parse_prompts(SMOKE, "p"), suite=builtin_suite() if suite is None else suite,
        smoke=SmokeTerms("m:1"), terms=terms, manner=Manner(**{"max_tokens": 8, "timeout_s": 5, **more}),
    )  # fmt: skip
    verdict = recompute(lines)
    assert recompute(json.loads("[" + ",".join(map(json.dumps, lines)) + "]")) == verdict
    return lines, verdict


def results(verdict):
    return {group["name"]: group["result"] for group in verdict.evidence["groups"]}


def test_two_copies_of_one_model_pass():
    with Engine(model()) as old, Engine(model()) as new:
        lines, verdict = run(old, new)
    assert verdict.result == "pass", verdict.summary
    found = results(verdict)
    assert {found[name] for name in ("smoke", "weights", "form", "endings", "stop", "defaults", "facts")} == {"pass"}
    assert "Bearer" not in json.dumps(lines)
    assert "16 groups" in verdict.summary
    first = lines[0]
    assert (first["kind"], first["check"], first["target"]) == ("plan", "parity", "m:1")


@pytest.mark.parametrize(
    "planted, group",
    [
        ({"seed": 1}, "weights"),
        ({"temperature": 0}, "defaults"),
        ({"obeys": False}, "stop"),
    ],
)
def test_a_planted_difference_is_named_first(planted, group):
    with Engine(model()) as old, Engine(model(**planted)) as new:
        _, verdict = run(old, new)
    assert verdict.result == "fail"
    assert verdict.summary.startswith(f"{group}: "), verdict.summary
    assert results(verdict)["smoke"] == "pass"


def test_a_group_that_is_left_out_is_not_asked():
    with Engine(model()) as old, Engine(model(obeys=False)) as new:
        lines, verdict = run(old, new, terms=Terms(skipped={"stop": "nobody uses them"}))
    assert verdict.result == "pass"
    assert not [line for line in lines if line["kind"] == "case" and line["group"] == "stop"]
    assert {"name": "stop", "result": "inconclusive"}.items() <= verdict.evidence["groups"][-1].items()


def test_sampling_is_sent_and_only_then():
    with Engine(model()) as old, Engine(model()) as new:
        run(old, new)
    bodies = [body for body in new.bodies if "messages" in body]
    free = [body for body in bodies if "temperature" not in body]
    assert len(free) == 12 * 6
    assert all(not EQUAL.keys() & body.keys() for body in free)
    assert all(body["seed"] == 1 for body in bodies if body not in free)


def test_a_prompt_that_looks_lost_is_asked_again():
    """One stray answer is no loss; a prompt that keeps failing is."""
    for said, what, times in ((["no", "yes"], "unsteady", 2), (["no", "no", "no"], "lost", 3), (["yes"], "both", 1)):
        replies = iter(said)
        stray = lambda body, it=replies: Reply(tokens=[next(it) if "yes" in str(body["messages"]) else "a"])  # noqa: E731
        with Engine(lambda _: Reply(tokens=["yes"])) as old, Engine(stray) as new:
            lines, verdict = run(old, new, [CASE], repeats=1)
        assert verdict.evidence["groups"][-1]["facts"]["prompts"][0]["what"] == what
        assert sum(line["kind"] == "answer" and line["side"] == "vllm" for line in lines) == times


def test_no_more_at_once_than_allowed():
    lock, now, most = threading.Lock(), [0], [0]

    def busy(body):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        return Reply(tokens=["a", "b", "c"], gap_s=0.01)

    def over():
        with lock:
            now[0] -= 1

    with Engine(lambda _: Reply()) as old, Engine(busy) as new:
        new.on_end = over
        run(old, new, [Case(f"g/{n}", "g", CASE.messages) for n in range(12)], parallel=3)
    assert most[0] == 3


@pytest.mark.parametrize("gone, result", [("vllm", "fail"), ("ollama", "inconclusive")])
def test_a_side_that_is_lost_on_the_way(gone, result):
    count = [0]

    def dies(body):
        count[0] += 1
        return Reply(status=502) if count[0] > 6 else Reply()

    behave = {"ollama": lambda _: Reply(), "vllm": lambda _: Reply(), gone: dies}
    with Engine(behave["ollama"]) as old, Engine(behave["vllm"]) as new:
        lines, verdict = run(old, new, [Case(f"g/{n}", "g", CASE.messages) for n in range(12)])
    assert (verdict.result, lines[-1]["kind"]) == (result, "lost")
    assert gone in verdict.summary


def test_one_busy_answer_is_not_a_lost_side():
    count = [0]

    def busy(body):
        count[0] += 1
        return Reply(status=503, error="server busy") if count[0] == 4 else Reply()

    with Engine(busy) as old, Engine(lambda _: Reply()) as new:
        _, verdict = run(old, new, [Case(f"g/{n}", "g", CASE.messages) for n in range(9)])
    assert verdict.result == "pass"


def test_the_suites_are_asked_only_when_the_form_is_right():
    with Engine(model()) as old, Engine(lambda _: Reply(model="other")) as new:
        lines, verdict = run(old, new)
    assert verdict.result == "fail"
    assert {line["kind"] for line in lines} == {"plan", "pair"}


def test_progress_may_end_the_asking():
    class Stop(Exception):
        pass

    def stop(done, of, name):
        if done:
            raise Stop

    more = {"prompts": load_prompts(), "suite": builtin_suite(), "smoke": SmokeTerms("m:1"), "terms": Terms()}
    with Engine(lambda _: Reply()) as old, Engine(lambda _: Reply()) as new:
        sides = Side("ollama", old.url), Side("vllm", new.url)
        with pytest.raises(Stop):
            measure_parity(*sides, "m:1", **more, manner=Manner(timeout_s=5), progress=stop)


@pytest.mark.parametrize(
    "text, word",
    [("one two three four five", "four"), ("", None), ("hello", None), ("a a a a a a", None), ("하나 둘이야 셋이야 넷이야 다섯", "셋이야")],
)
def test_the_stop_word_is_out_of_the_middle(text, word):
    assert stop_word(text) == word


def test_tool_calls_are_read_whatever_they_look_like():
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    body = {"choices": [{"message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"}]}
    assert read_reply(200, json.dumps(body).encode()).tool_calls == ({"name": "f", "arguments": "{}"},)
    for odd in ([None], [3], {}, "x", [{"function": None}], [{}]):
        body["choices"][0]["message"]["tool_calls"] = odd
        assert read_reply(200, json.dumps(body).encode()).tool_calls == ()
    for odd in (b"[]", b"", b'{"choices": [{"message": {"content": ["a"]}}]}', b'{"choices": [{"message": "a"}]}'):
        assert read_reply(200, odd).flaw in ("error", "truncated")
