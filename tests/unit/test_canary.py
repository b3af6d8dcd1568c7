import os
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.decide.canary import judge, side_of
from orchestrator.spec import Thresholds

FILE = Path(os.environ.get("CANARY_CASES", Path(__file__).parent / "data" / "canary" / "cases.yaml"))
CASES = yaml.safe_load(FILE.read_text(encoding="utf-8"))


def records(text):
    found = re.fullmatch(r"(\d+) (\w+) (\w+)(.*)", text)
    number, side, outcome, rest = int(found[1]), found[2], found[3], found[4]
    values = {key: yaml.safe_load(value) for key, value in re.findall(r"(\w+)=(\[.*?\]|\S+)", rest)}
    words = set(re.sub(r"\w+=(\[.*?\]|\S+)", "", rest).split())

    def at(key, index, default):
        value = values.get(key, default)
        return float(value[index % len(value)] if isinstance(value, list) else value)

    return [
        {
            "side": side, "outcome": outcome, "status": values.get("status", 200),
            "ttft_ms": None if "no-ttft" in words else at("ttft", index, 20), "total_ms": at("total", index, 100),
            "failover": "failover" in words, "forced": "forced" in words,
        }
        for index in range(number)
    ]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_judge(case):
    seen = [one for text in case["records"] for one in records(text)]
    control = side_of(records(case["control"]), "ollama") if "control" in case else None
    found = judge(seen, Thresholds(**case.get("thresholds", {})), case.get("min_requests", 20), control)
    assert found.result == case["result"], found.reasons
    assert found.reasons
    assert case.get("reason", "") in "; ".join(found.reasons)
    if "needed" in case:
        assert found.needed == case["needed"]
    if found.result == "inconclusive":
        assert found.needed > 0
    for side in ("vllm", "ollama"):
        if side in case:
            assert getattr(found, side).requests == case[side]


def test_every_broken_limit_is_told():
    seen = [*records("20 vllm error"), *records("20 vllm complete ttft=900 total=9000"), *records("20 ollama complete")]
    found = judge(seen, Thresholds(ttft_p95=0.5), 20)
    assert [reason.split(":")[0][:12] for reason in found.reasons] == [
        "20 of 40 vLL", "TTFT p95 900", "median TTFT ", "median total",
    ]  # fmt: skip


def test_the_numbers_are_kept_with_the_verdict():
    found = judge([*records("3 vllm complete ttft=[10, 20, 30] total=[1, 2, 3]"), *records("1 vllm truncated")],
                  Thresholds(), 1).as_dict()  # fmt: skip
    assert found["vllm"] == {
        "requests": 4, "bad": 1, "refusing": 0, "outcomes": {"complete": 3, "truncated": 1},
        "ttft_p50": 20.0, "ttft_p95": 29.0, "e2e_p50": 2.0,
    }  # fmt: skip
    assert found["ollama"]["requests"] == 0
    assert found["ollama"]["ttft_p50"] is None


_record = st.fixed_dictionaries({
    "side": st.sampled_from(["vllm", "ollama"]),
    "outcome": st.sampled_from(["complete", "complete", "complete", "error", "truncated", "refused", "client_left"]),
    "status": st.sampled_from([200, 200, 404]),
    "ttft_ms": st.none() | st.floats(0, 5000), "total_ms": st.floats(0, 50000),
    "failover": st.booleans(), "forced": st.booleans(),
})  # fmt: skip
FAST = {"side": "vllm", "outcome": "complete", "status": 200, "ttft_ms": 0.0, "total_ms": 0.0}
LIMITS = Thresholds(ttft_p95=1.0)


@given(st.lists(_record, max_size=60), st.integers(5, 20))
def test_one_more_good_and_fast_answer_never_turns_a_pass_into_a_fail(seen, least):
    if judge(seen, LIMITS, least).result == "pass":
        assert judge([*seen, FAST], LIMITS, least).result == "pass"


@given(st.lists(_record, max_size=60), st.integers(0, 20))
def test_one_more_bad_answer_never_turns_a_fail_into_a_pass(seen, least):
    bad = {"side": "vllm", "outcome": "error", "status": 500, "ttft_ms": None, "total_ms": 1.0}
    if judge(seen, LIMITS, least).result == "fail":
        assert judge([*seen, bad], LIMITS, least).result != "pass"


@given(st.lists(_record, max_size=40), st.randoms(use_true_random=False))
def test_the_order_of_the_log_does_not_matter(seen, random):
    mixed = list(seen)
    random.shuffle(mixed)
    assert judge(mixed, LIMITS, 5).result == judge(seen, LIMITS, 5).result
