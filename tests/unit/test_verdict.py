from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
from decide_cases import cases, read
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from verdict_cases import case_facts, case_needs

from orchestrator.decide.cited import cited
from orchestrator.decide.tuning import tuning
from orchestrator.decide.verdict import Verdict, decide
from orchestrator.decide.verdict.text import tuning_lines, verdict_lines
from orchestrator.facts import Facts, Spread, Traffic
from orchestrator.spec_needs import Needs

KINDS = ["stay", "tune", "consider", "migrate"]
EVIDENCE = {"measured", "asked", "cited", "stated", "unknown"}


@pytest.mark.parametrize("path", cases("verdict"), ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    case = read(path)
    facts = case_facts(case)
    found = decide(facts, case_needs(case), case.get("format_needs"))
    said = " ".join(" ".join([*verdict_lines(found), *tuning_lines(tuning(facts))]).split())
    assert found.kind == case["expect"]["kind"], said
    for words in case["expect"].get("says", ()):
        assert words in said
    for words in case["expect"].get("never", ()):
        assert words not in said


def measured(usual: float, peak: float | None = None, **more: object) -> Facts:
    traffic = Traffic("log", requests=1000, seconds=604800, lines=1000,
                      concurrency=Spread(1000, p95=usual, peak=peak or usual), **more)  # type: ignore[arg-type]
    return dataclasses.replace(case_facts({}), traffic=traffic)


def test_more_load_never_speaks_less_for_vllm() -> None:
    ranks = [KINDS.index(decide(measured(n)).kind) for n in range(1, 200)]
    assert ranks == sorted(ranks)
    assert ranks[0] == 0
    assert ranks[-1] == 3


def test_reasons_come_in_order() -> None:
    facts = dataclasses.replace(measured(30, queue_hours_per_week=9.0), ollama=case_facts({"models": ["llama3.1:8b"]}).ollama)
    kinds = list(dict.fromkeys(one.kind for one in decide(facts, Needs(sla=True, operating_capacity=False)).reasons))
    assert kinds == ["hardware", "concurrency", "symptoms", "needs", "size", "hours", "capacity"]


def test_table_has_every_threshold_of_all_five_beside_the_load() -> None:
    found = decide(measured(6, 12, seconds_above={"2": 7200.0, "9": 60.0}))
    rows = {row.threshold.id: row for row in found.table}
    assert {row.threshold.source.id for row in found.table} == {"S0", "S1", "S2", "S3", "S4"}
    assert rows["s3-severe"].by_peak is True
    assert rows["s3-severe"].by_p95 is False
    assert rows["s3-severe"].seconds == 60.0
    assert rows["s3-regular"].seconds == 7200.0
    assert rows["s0-required"].by_peak is False
    assert all(row.by_peak is None for row in decide(case_facts({})).table)


def test_nothing_known_is_said_to_be_unknown() -> None:
    found = decide(case_facts({}))
    assert found.kind == "consider"
    assert {one.evidence for one in found.reasons if one.kind != "hardware"} == {"unknown"}
    assert found.hours_lost is None
    assert all(one.met is None for one in found.symptoms)
    assert len(found.missing) >= 3
    assert all(one.how for one in found.missing)


def test_six_symptoms_and_three_of_any_six_count() -> None:
    names = [one.name for one in decide(case_facts({})).symptoms]
    assert len(names) == 6
    assert names == list(type(Needs().symptoms).model_fields)
    for at in range(4):
        needs = Needs.model_validate({"symptoms": dict.fromkeys(names[at:at + 3], True)})
        assert decide(case_facts({}), needs).kind == "migrate"


@pytest.mark.parametrize("bad", [
    {"users": -1}, {"sla": "maybe"}, {"loras": 1.5}, {"ttft_ms": 0}, {"purpose": "fun"}, {"user": 3},
    {"symptoms": {"slow": True}}, {"requests_per_minute": math.nan}, {"ci_parallel": -2},
])  # fmt: skip
def test_needs_refuse_nonsense(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Needs.model_validate(bad)


def test_contradictions_are_shown_where_they_matter() -> None:
    migrate = "\n".join(verdict_lines(decide(measured(30))))
    assert "limit of vLLM?" in migrate
    assert "a team of five?" not in migrate
    stated = "\n".join(verdict_lines(decide(case_facts({}), Needs(users=5, ttft_ms=40, ci_parallel=4))))
    assert all(words in stated for words in ("a team of five?", "first token in under 50 ms?", "CI jobs?"))
    assert "the oldest NVIDIA GPU" in "\n".join(verdict_lines(decide(case_facts({"gpus": ["8GiB cc6.1"]}))))


def test_cited_figures_name_their_source_and_hold_together() -> None:
    data = cited()
    assert set(data.sources) == {"S0", "S1", "S2", "S3", "S4"}
    assert all(one.title and one.date and one.hardware for one in data.sources.values())
    assert {one.says for one in data.thresholds} == {"stay", "consider", "migrate"}
    assert len({one.id for one in data.thresholds}) == len(data.thresholds)
    assert all(one.until is None or one.until >= one.at for one in data.thresholds)
    assert all(set(one.answers) <= set(data.sources) and one.checked for one in data.contradictions)
    assert all(one.where for one in data.figures)
    assert all(one.checked and one.engine in ("ollama", "vllm") for one in data.settings)


FLOATS = st.one_of(st.none(), st.just(math.nan), st.just(math.inf), st.floats(0, 1e4))
TRAFFIC = st.builds(
    Traffic,
    source=st.sampled_from(["none", "log", "watch", "stated", "", "rumour"]),
    seconds=st.floats(0, 1e7), requests=st.integers(0, 10**6), lines=st.integers(0, 10**6),
    concurrency=st.builds(Spread, n=st.integers(0, 9), p95=FLOATS, peak=FLOATS),
    latency=st.builds(Spread, n=st.integers(0, 99), p50=FLOATS, p95=FLOATS),
    prompt_tokens=st.builds(Spread, n=st.integers(0, 99), peak=FLOATS),
    seconds_above=st.dictionaries(st.sampled_from(["2", "4", "x", ""]), st.floats(0, 1e6)),
    peak_by_hour=st.dictionaries(st.sampled_from(["03", "11"]), st.integers(0, 99)),
    over_30s=st.floats(0, 1), busy=st.integers(0, 9), truncated=st.integers(0, 9),
    queue_hours_per_week=FLOATS, models=st.one_of(st.none(), st.dictionaries(st.text(max_size=9), st.integers(0, 9))),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(TRAFFIC, st.sampled_from([[], ["24GiB cc8.9"], ["16GiB cc7.5", "8GiB cc6.1"], ["amd 8GiB"]]))
def test_whatever_comes_in_a_whole_verdict_comes_out(traffic: Traffic, gpus: list[str]) -> None:
    plain = case_facts({"gpus": gpus, "models": ["llama3.1:8b", "no-such-model", {"name": "odd", "parameter_size": "?"}]})
    facts = dataclasses.replace(plain, traffic=traffic)
    found: Verdict = decide(facts)
    assert found.kind in [*KINDS, "cannot"]
    assert {one.evidence for one in found.reasons} <= EVIDENCE
    assert found.reasons[0].kind == "hardware"
    text = "\n".join([*verdict_lines(found), *tuning_lines(tuning(facts))])
    assert "nan" not in text.lower().split()
    assert "inf" not in text.lower().split()
