"""Prompt parity: the data cases of tests/cases/rendering, the run against both stand-ins, and the verdict again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import standin_servers
from decide_cases import cases, read

from orchestrator.checks import Side
from orchestrator.checks.contract.usage import Usage
from orchestrator.checks.rendering import check_rendering, recompute
from orchestrator.checks.rendering_findings import LEVELS, REASONS, Conversation, Rendering
from orchestrator.checks.rendering_rules import compare
from orchestrator.checks.rendering_text import text_of

MODEL = "llama3.1:8b"


def side(data: dict) -> Rendering:
    strings = data.get("token_strs", [])
    return Rendering(data["text"] if "text" in data else text_of(strings), data.get("tokens"), tuple(strings[:4]),
                     data.get("context"))


@pytest.mark.parametrize("path", cases("rendering"), ids=lambda path: path.stem)
def test_a_case_has_these_findings_and_no_others(path: Path) -> None:
    case = read(path)
    said = Conversation(path.stem, case["said"], tuple(case.get("tools", ())))
    found = compare(said, side(case["old"]), side(case["new"]))
    assert {one.what: one.level for one in found} == (case["findings"] or {}), [one.to_json() for one in found]


def test_every_name_is_met_and_every_tolerance_has_a_reason() -> None:
    met = {what for path in cases("rendering") for what in read(path)["findings"] or {}}
    assert met <= set(LEVELS)
    assert {what for what, level in LEVELS.items() if level == "note"} == set(REASONS)


@pytest.mark.parametrize("path", cases("rendering"), ids=lambda path: path.stem)
def test_a_rendering_does_not_differ_from_itself(path: Path) -> None:
    case = read(path)
    said = Conversation(path.stem, case["said"], tuple(case.get("tools", ())))
    for one in (side(case["old"]), side(case["new"])):
        assert compare(said, one, one) == []


# the run


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory):
    old = standin_servers.ollama(tmp_path_factory.mktemp("models"))
    new = standin_servers.vllm("repo/model-8b", "--served-model-name", MODEL)
    yield Side("ollama", old.url), Side("vllm", new.url)
    old.stop()
    new.stop()


def test_the_stand_ins_render_alike_and_count_alike(both) -> None:
    seen = []
    verdict, lines = check_rendering(*both, MODEL, progress=lambda *step: seen.append(step))
    assert verdict.result == "pass", verdict.summary
    assert {one["first"] for one in verdict.evidence["renderings"]} == {-1}
    assert len([line for line in lines if line["kind"] == "count" and line["tokens"]]) == 3
    assert seen[0][2] == "question"
    assert recompute(json.loads(json.dumps(lines))) == verdict
    assert lines[0]["kind"] == "plan"


def test_two_vllms_are_compared_by_their_tokens(both) -> None:
    verdict, _ = check_rendering(both[1], both[1], MODEL)
    assert (verdict.result, verdict.evidence["findings"]) == ("pass", [])


def changed(lines: list[dict], change, side_name: str = "new") -> list[dict]:
    """The raw lines as they would be had a side rendered otherwise."""
    return [change(dict(line)) if line.get("side") == side_name and line["kind"] == "rendering" else line for line in lines]


def replaced(old: str, new: str):
    def change(line: dict) -> dict:
        return {**line, "text": line["text"].replace(old, new)} if line["text"] else line
    return change


@pytest.mark.parametrize("change, name", [
    (lambda line: {**line, "text": line["text"] and "<s><s>" + line["text"]}, "BOS twice"),
    (replaced("<|system|>You answer in one short sentence.", ""), "system prompt missing"),
    (replaced("<|user|>", "[INST]"), "other template"),
    (replaced('"river_level"', '"other"'), "tools missing"),
    (replaced("<|user|>Note 1 of the log: the water stood at 201 centimetres.", ""), "context truncated"),
])
def test_a_planted_difference_is_named(both, change, name: str) -> None:
    _, lines = check_rendering(*both, MODEL)
    verdict = recompute(changed(lines, change))
    assert verdict.result == "fail"
    assert verdict.summary.startswith(f"{name} ("), verdict.summary
    assert {one["what"] for one in verdict.evidence["findings"] if one["level"] == "fail"} == {name}


def test_a_template_that_refuses_a_conversation_is_a_difference(both) -> None:
    _, lines = check_rendering(*both, MODEL)
    refused = [{**line, "text": None, "tokens": None, "status": 400, "why": "System role not supported"}
               if line.get("side") == "new" and line.get("conversation") == "system" else line for line in lines]
    verdict = recompute(refused)
    assert verdict.result == "fail"
    assert "conversation refused (system): 400: System role not supported" in verdict.summary


@pytest.mark.parametrize("longest, level", [(900, "note"), (3000, "fail"), (None, "warn")])
def test_a_smaller_context_fails_only_where_prompts_are_longer(both, longest, level: str) -> None:
    _, lines = check_rendering(*both, MODEL, used=Usage(longest=longest))
    found = {one["what"]: one["level"] for one in recompute(lines).evidence["findings"]}
    assert found == {"context truncated": level}


def test_nobody_who_uses_tools_makes_them_no_failure(both) -> None:
    _, lines = check_rendering(*both, MODEL, used=Usage(uses=("streaming",)))
    verdict = recompute(changed(lines, replaced('"river_level"', '"other"')))
    assert verdict.result == "pass"
    assert "tools missing" in verdict.summary


@pytest.mark.parametrize("gone", ["old", "new"])
def test_a_side_that_is_not_there_is_no_pass(both, gone: str) -> None:
    nowhere = Side("ollama" if gone == "old" else "vllm", "http://127.0.0.1:9")
    sides = (nowhere, both[1]) if gone == "old" else (both[0], nowhere)
    verdict, lines = check_rendering(*sides, MODEL)
    assert verdict.result == "inconclusive"
    assert recompute(lines) == verdict


def test_an_old_ollama_that_renders_nothing_is_judged_by_its_counts(both) -> None:
    _, lines = check_rendering(*both, MODEL)
    blind = [{**line, "text": None, "tokens": 12} if line.get("side") == "old" and line["kind"] == "rendering" else line
             for line in lines]
    verdict = recompute(blind)
    assert verdict.result == "pass"
    assert "other token count" in verdict.summary


def test_progress_may_end_the_check(both) -> None:
    class Stop(Exception):
        pass

    def stop(*_) -> None:
        raise Stop

    with pytest.raises(Stop):
        check_rendering(*both, MODEL, progress=stop)
