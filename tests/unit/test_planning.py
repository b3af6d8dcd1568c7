"""Whole situations: from facts to the verdict, the placement, and the words that a person reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from decide_cases import cases, read
from plan_cases import facts

from orchestrator.commands import plan_report
from orchestrator.decide.planning import Planned, decide_plan
from orchestrator.errors import UsageError
from orchestrator.plan import plan_up
from orchestrator.state import fold
from orchestrator.workspace import Workspace

KINDS = ("stay", "tune", "consider", "migrate", "cannot")


def decided(case: dict[str, Any]) -> Planned:
    laid = {**case.get("overrides", {}), **({"needs": case["needs"]} if "needs" in case else {})}
    laid |= {"accelerator": "cpu"} if case.get("cpu") else {}
    ask = tuple(case["ask"]) if "ask" in case else None
    return decide_plan("case", facts(case), ask, laid, force=case.get("force", False))


def printed(case: dict[str, Any], planned: Planned) -> str:
    seen = facts(case)
    if planned.spec is None:
        return plan_report.stays(planned, seen)
    steps = plan_up(planned.spec, fold([], {}, ()))
    return plan_report.report(plan_report.Shown(Workspace(Path("stacks/case")), planned, seen, steps, checked=False))


@pytest.mark.parametrize("path", cases("plan"), ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    case = read(path)
    expect = case["expect"]
    if "refused" in expect:
        with pytest.raises(UsageError) as refused:
            decided(case)
        told = f"{refused.value}\n{refused.value.evidence}"
        assert all(re.search(pattern, told) for pattern in expect["refused"]), told
        return
    planned = decided(case)
    assert planned.verdict.kind == expect.get("verdict", planned.verdict.kind)
    assert planned.forced == expect.get("forced", False)
    assert (planned.spec is not None) == expect.get("renders", planned.spec is not None)
    text = printed(case, planned)
    for pattern in expect.get("says", []):
        assert re.search(pattern, text), f"{pattern!r} is not in:\n{text}"
    for pattern in expect.get("never", []):
        assert not re.search(pattern, text), f"{pattern!r} is in:\n{text}"
    wanted = set(expect) & {"engines", "routes", "stays", "shared", "accelerator"}
    assert not wanted or planned.proposal is not None, text
    if planned.proposal:
        _proposal(planned, expect)


def _proposal(planned: Planned, expect: dict[str, Any]) -> None:
    proposal = planned.proposal
    assert proposal is not None
    spec = proposal.spec
    if "engines" in expect:
        assert set(spec.engines) == set(expect["engines"])
        for name, keys in expect["engines"].items():
            actual = spec.engines[name].model_dump(mode="json")
            assert {key: actual[key] for key in keys} == keys
    for model, patterns in expect.get("stays", {}).items():
        assert all(re.search(pattern, proposal.stays[model]) for pattern in patterns), proposal.stays
    if "routes" in expect:
        assert {model: route.engine for model, route in spec.routes.items()} == expect["routes"]
    if "shared" in expect:
        used = {gpu for engine in spec.engines.values() for gpu in engine.gpus}
        assert bool(used & set(spec.ollama.gpus)) == expect["shared"]
    assert spec.accelerator == expect.get("accelerator", spec.accelerator)


ACCEPTED = [path for path in cases("plan") if "refused" not in read(path)["expect"]]


@pytest.mark.parametrize("path", ACCEPTED, ids=lambda path: path.stem)
def test_what_is_rendered_can_start(path: Path) -> None:
    planned = decided(read(path))
    assert planned.sums is None or not planned.sums.problems


@pytest.mark.parametrize("path", cases("plan"), ids=lambda path: path.stem)
def test_every_case_says_its_situation_and_expects_something(path: Path) -> None:
    case = read(path)
    assert case["situation"].endswith(".")
    assert case["expect"]
    assert case["expect"].get("verdict", "stay") in KINDS


def test_the_evidence_after_the_plan_repeats_neither_the_verdict_nor_points_below() -> None:
    case = {"gpus": ["24GiB cc8.9"], "models": ["llama3.1:8b"], "users": 20}
    text = printed(case, decided(case))
    assert "The evidence in full" in text
    assert "read the plan below" not in text
    assert text.count("vLLM runs on it") == 1
