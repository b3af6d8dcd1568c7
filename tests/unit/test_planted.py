"""What tests/engines plants before a real vLLM, planted before stand-ins: found and named, one by one."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import standin_servers
from template_engine import engine

from orchestrator.checks import Side, Verdict
from orchestrator.checks.contract import check_contract, load_probes
from orchestrator.checks.rendering import check_rendering, recompute

sys.path.append(str(Path(__file__).parents[1] / "engines"))
from planted import CONTRACT, MODEL, OWN, PROMPTS, TEMPLATES, Change, between


@pytest.fixture(scope="module")
def renders() -> Iterator[str]:
    with engine(OWN) as url:
        yield url


@pytest.fixture(scope="module")
def answers() -> Iterator[str]:
    server = standin_servers.vllm("repo/model-8b", "--served-model-name", MODEL)
    yield server.url
    server.stop()


def rendering(old: str, new: str) -> Verdict:
    verdict, lines = check_rendering(Side("ollama", old), Side("vllm", new), MODEL)
    assert recompute(json.loads(json.dumps(lines))) == verdict
    return verdict


def named(verdict: Verdict) -> set[str]:
    return {one["what"] for one in verdict.evidence["findings"] if one["level"] in ("fail", "warn")}


def test_a_template_does_not_differ_from_itself(renders: str) -> None:
    verdict = rendering(renders, renders)
    assert (verdict.result, verdict.evidence["findings"]) == ("pass", [])
    assert len(verdict.evidence["renderings"]) == 5


@pytest.mark.parametrize("change, name", PROMPTS)
def test_a_planted_difference_of_prompts_is_named(renders: str, change: Change, name: str) -> None:
    with between(renders, change) as changed:
        verdict = rendering(renders, changed)
    assert named(verdict) == {name}
    assert name in verdict.summary


def test_another_server_with_another_template_or_context(renders: str) -> None:
    with engine((TEMPLATES / "chatml.jinja").read_text()) as other:
        assert named(rendering(renders, other)) == {"other template", "tools missing"}
    with engine(OWN, context=512) as other:
        assert named(rendering(renders, other)) == {"context truncated"}


@pytest.mark.parametrize("change, group, name", CONTRACT)
def test_a_planted_difference_of_the_contract_is_named(answers: str, change: Change, group: str, name: str) -> None:
    others = tuple({"context", *(one.group for one in load_probes())} - {group})
    with between(answers, change) as changed:
        verdict, _ = check_contract(Side("ollama", answers), Side("vllm", changed), MODEL, skip=others)
    found = {row["name"] for row in verdict.evidence["matrix"] if row["result"] == "differs"}
    assert (verdict.result, found) == ("fail", {name}), verdict.summary
