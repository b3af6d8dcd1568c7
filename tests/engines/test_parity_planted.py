"""Parity against a real vLLM: no red against itself, and each planted difference found and rightly named."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from planted import CONTRACT, MODEL, PROMPTS, Change, between, engine

from orchestrator.checks import Side, Verdict
from orchestrator.checks.contract import check_contract, load_probes
from orchestrator.checks.contract import recompute as contract_again
from orchestrator.checks.rendering import check_rendering
from orchestrator.checks.rendering import recompute as rendering_again

pytestmark = [pytest.mark.docker, pytest.mark.vllm, pytest.mark.timeout(1800)]
@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with engine() as found:
        yield found


def sides(old: str, new: str) -> tuple[Side, Side]:
    return Side("ollama", old), Side("vllm", new)


def rendering(old: str, new: str) -> Verdict:
    verdict, lines = check_rendering(*sides(old, new), MODEL)
    assert rendering_again(json.loads(json.dumps(lines))) == verdict
    return verdict


def contract(old: str, new: str, *skip: str) -> Verdict:
    verdict, lines = check_contract(*sides(old, new), MODEL, skip=skip)
    assert contract_again(json.loads(json.dumps(lines))) == verdict
    return verdict


def all_but(group: str) -> tuple[str, ...]:
    return tuple({"context", *(one.group for one in load_probes())} - {group})


def named(verdict: Verdict) -> set[str]:
    """The names of what is red, or shown as different."""
    found = {row["name"] for row in verdict.evidence.get("matrix", ()) if row["result"] == "differs"}
    return found | {one["what"] for one in verdict.evidence.get("findings", ()) if one["level"] in ("fail", "warn")}


def test_a_vllm_does_not_differ_from_itself(url: str) -> None:
    # The first sampling with log-probabilities makes vLLM's CPU build compile for half a minute: in the long tier.
    found, prompts = contract(url, url, "sampling", "logprobs"), rendering(url, url)
    assert (found.result, named(found)) == ("pass", set()), found.summary
    assert (prompts.result, named(prompts)) == ("pass", set()), prompts.summary
    facts = {row["probe"]: row["new"] for row in found.evidence["matrix"]}
    assert facts["tool call in the template's own form"]["call"] == "called"
    assert facts["streamed tool call in the template's own form"]["call"] == "called"
    assert facts["stop word"] == {"supported": True, "cut": True}


@pytest.mark.parametrize("change, name", PROMPTS)
def test_a_planted_difference_of_prompts_is_named(url: str, change: Change, name: str) -> None:
    with between(url, change) as changed:
        verdict = rendering(url, changed)
    assert named(verdict) == {name}
    assert verdict.result == ("pass" if name == "tools rendered differently" else "fail")
    assert name in verdict.summary


@pytest.mark.parametrize("change, group, name", [
    pytest.param(*one, marks=pytest.mark.full if one[1] == "sampling" else ()) for one in CONTRACT
])
def test_a_planted_difference_of_the_contract_is_named(url: str, change: Change, group: str, name: str) -> None:
    with between(url, change) as changed:
        verdict, lines = check_contract(*sides(url, changed), MODEL, skip=all_but(group))
    assert (verdict.result, named(verdict)) == ("fail", {name}), verdict.summary
    assert verdict.summary.startswith(f"{name} (")
    assert contract_again(json.loads(json.dumps(lines))) == verdict


@pytest.mark.full
@pytest.mark.parametrize("argv, group, of_contract, of_rendering", [
    (("--tool-call-parser", "phi4_mini_json"), "tools", {"wrong tool parser"}, set()),
    (("--tool-call-parser", "pythonic"), "tools", {"wrong tool parser"}, set()),
    (("--override-generation-config", '{"temperature": 0.5}'), "sampling", {"other temperature default"}, set()),
    (("--max-model-len", "512"), "context", {"long prompts refused"}, {"context truncated"}),
    (("--chat-template", "/templates/chatml.jinja"), "errors", set(), {"other template", "tools missing"}),
], ids=["phi4_mini_json", "pythonic", "temperature", "context", "template"])
def test_a_difference_planted_by_the_servers_own_flags_is_named(
    url: str, argv: tuple[str, ...], group: str, of_contract: set[str], of_rendering: set[str]
) -> None:
    with engine(*argv) as other:
        found = contract(url, other, *all_but(group))
        assert named(found) == of_contract, found.summary
        prompts = rendering(url, other)
        assert named(prompts) == of_rendering, prompts.summary


@pytest.mark.full
def test_two_copies_show_no_red_in_twenty_runs(url: str) -> None:
    with engine("--seed", "7", "--max-num-seqs", "8") as other:
        for run in range(int(os.environ.get("PARITY_RUNS", "20"))):
            found = contract(url, other), rendering(url, other)
            drawn = {row["probe"]: row["new"]["draws"] for row in found[0].evidence["matrix"] if "draws" in row["new"]}
            assert drawn["default temperature"] > 200
            assert [named(one) for one in found] == [set(), set()], f"run {run}: {[one.summary for one in found]}"
            assert {one.result for one in found} == {"pass"}
