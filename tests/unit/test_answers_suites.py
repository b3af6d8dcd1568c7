"""Suites: the built-in one, users' own from data files (MIGRATE_CASES: another folder with a `suites/`), traffic."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from decide_cases import ROOT, cases, read

from orchestrator.adapter.ring import Ring, compared
from orchestrator.checks.answers.assertions import holds, problem
from orchestrator.checks.answers.builtin import builtin_suite
from orchestrator.checks.answers.case import EQUAL
from orchestrator.checks.answers.record import Reply
from orchestrator.checks.answers.shape import SHAPES
from orchestrator.checks.answers.suites import load_suites
from orchestrator.checks.answers.whole import all_groups
from orchestrator.errors import UsageError
from orchestrator.spec import parse_spec
from orchestrator.steps.paritygate import require_suites

MODEL = "llama3.1:8b"


def test_the_built_in_suite_covers_what_it_should():
    suite = builtin_suite()
    groups = {case.group for case in suite}
    assert 55 <= len(suite) <= 75
    assert {"facts", "arithmetic", "extraction", "code", "json", "tools", "turns", "long", "stop", "languages"} <= groups
    assert groups | set(SHAPES) <= set(all_groups())
    assert len({case.id for case in suite}) == len(suite)
    whole = json.dumps([case.messages for case in suite], ensure_ascii=False)
    assert all(word in whole for word in ("대한민국", "عاصمة", "שלוש"))
    assert not [said for case in suite for rule in case.asserts if (said := problem(rule))]
    assert "{{" not in whole


def test_a_group_of_checked_prompts_is_large_enough_to_lose():
    """Exact McNemar cannot call fewer than five lost prompts worse."""
    checked = [case.group for case in builtin_suite() if case.ask == "equal"]
    assert min(checked.count(group) for group in checked) >= 5


def test_sampling_is_equal_unless_the_defaults_are_asked_for():
    for case in builtin_suite():
        body = case.body(MODEL, 48)
        told = {key: body[key] for key in EQUAL if key in body}
        assert told == ({} if case.ask == "free" else EQUAL)
        assert body["stream"] is False


@pytest.mark.parametrize("path", cases("suites"), ids=lambda path: path.stem)
def test_a_suite_of_ones_own(path):
    data = read(path)
    expect = data["expect"]
    folder = ROOT / "suites"
    if "mistakes" in expect:
        with pytest.raises(UsageError) as caught:
            load_suites([data["suite"]], folder, MODEL)
        found = caught.value.evidence.splitlines()
        assert len(found) == len(expect["mistakes"]), caught.value.evidence
        for want, line in zip(expect["mistakes"], found, strict=True):
            assert line.startswith(f"{data['suite']}: {want['at']}: "), line
            assert want["says"] in line
        return
    suite, notes = load_suites([data["suite"]], folder, MODEL)
    assert [case.id for case in suite] == [one["id"] for one in expect["cases"]]
    for case, want in zip(suite, expect["cases"], strict=True):
        if "messages" in want:
            assert list(case.messages) == want["messages"]
        if "group" in want:
            assert case.group == want["group"]
        if "params" in want:
            assert case.params == want["params"]
        for side, said in (("passes", True), ("fails", False)):
            for text in want.get(side, ()):
                reply = Reply.of({"status": 200, "finish_reason": "stop", **({"text": text} if isinstance(text, str) else text)})
                assert all(holds(rule, reply) for rule in case.asserts if rule["type"] != "latency") is said, (case, text)
    for words in expect.get("notes", ()):
        assert any(words in note for note in notes), notes


def test_ids_of_two_suites_stay_apart(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.yaml").write_text("- {id: one, prompt: hi}\n")
    suite, _ = load_suites(["a/mine.yaml", "b/mine.yaml", "a/mine.yaml"], tmp_path, MODEL)
    assert [case.id for case in suite] == ["mine/one", "mine/one#2"]


def test_all_files_tell_their_mistakes_at_once(tmp_path):
    (tmp_path / "one.yaml").write_text("tests: 3")
    with pytest.raises(UsageError) as caught:
        load_suites(["one.yaml", "gone.yaml"], tmp_path, MODEL)
    assert "one.yaml: tests:" in caught.value.evidence
    assert "gone.yaml: file: cannot be read: No such file" in caught.value.evidence


def test_groups_may_be_chosen(tmp_path):
    suite, _ = load_suites(["builtin"], tmp_path, MODEL, ["facts", "stop"])
    assert {case.group for case in suite} == {"facts", "stop"}
    with pytest.raises(UsageError, match="facta"):
        load_suites(["builtin"], tmp_path, MODEL, ["facta"])


def test_a_mistake_is_told_before_anything_starts(tmp_path):
    parity = "name: late\naccelerator: cpu\nengines: {one: {repo: org/repo}}\nroutes: {a: {engine: one}}\nparity: {suites: [mine.jsonl]}"
    context = SimpleNamespace(spec=parse_spec(parity), dir=tmp_path)
    (tmp_path / "mine.jsonl").write_text('{"prompt": "hi"}')
    require_suites(context)
    (tmp_path / "mine.jsonl").write_text('{"prompt": ')
    with pytest.raises(UsageError):
        require_suites(context)


# captured traffic


def kept(folder, request, *, uri="/api/chat", route=MODEL):
    """What the shadow writes itself."""
    said = {"status": 200, "body": b"{}", "cut": False, "total_ms": 1.0, "ttft_ms": 1.0}
    data = request if isinstance(request, bytes) else json.dumps(request).encode()
    Ring(folder, {route: 50}).put(route, compared({"route": route, "uri": uri, "id": "x"}, data, b"{}", said))


def test_captured_requests_are_asked_again(tmp_path):
    turn = {"role": "user", "content": "Where is Bern?"}
    kept(tmp_path / "shadow", {"model": MODEL, "messages": [turn], "options": {"num_predict": 9, "temperature": 1}})
    kept(tmp_path / "shadow", {"model": MODEL, "messages": [turn], "max_tokens": 9}, uri="/v1/chat/completions")
    kept(tmp_path / "shadow", {"model": MODEL, "prompt": "hi", "system": "be brief"}, uri="/api/generate")
    kept(tmp_path / "shadow", {"model": "other", "prompt": "hi"}, route="other")
    suite, notes = load_suites(["shadow"], tmp_path, "LLAMA3.1:8b")
    bodies = [case.body(MODEL, 48) for case in suite]
    assert sorted((len(body["messages"]), body["max_tokens"], body["temperature"]) for body in bodies) == [
        (1, 9, 0), (2, 512, 0),
    ]  # fmt: skip
    assert {case.group for case in suite} == {"traffic"}
    assert not notes


def test_what_cannot_be_asked_again_is_counted(tmp_path):
    kept(tmp_path, b'{"model": "x", "mess')
    kept(tmp_path, {"messages": [{"role": "user", "content": "look", "images": ["aGk="]}]})
    kept(tmp_path, {"prompt": "a", "suffix": "b"}, uri="/api/generate")
    kept(tmp_path, [1])
    kept(tmp_path, b'{"prompt": "\\ud800"}')
    (tmp_path / "odd.json").write_text("[]")
    suite, notes = load_suites(["."], tmp_path, MODEL)
    assert suite == ()
    told = " ".join(notes)
    assert "cut off, or not JSON" in told
    assert "no Unicode" in told
    assert "no captured request for llama3.1:8b" in told
    assert sum(int(note.split(": ")[1].split()[0]) for note in notes[:-1]) == 6


@pytest.mark.parametrize(
    "rule, words",
    [
        ({"type": "tool-call", "value": {"name": "f", "arguments": [1]}}, "should be {name"),
        ({"type": "word-count", "value": {"min": "2"}}, "a number"),
        ({"type": "is-json", "value": {"required": [{}]}}, "required is not valid"),
        ({"type": "is-json", "value": {"minimum": True}}, "minimum is not valid"),
        ({"type": "is-json", "value": {"items": {"pattern": "("}}}, "pattern is not valid"),
        ({"type": "contains-any", "value": [[1]]}, "list texts"),
        ({"type": "not-script", "value": "klingon"}, "one of"),
        ({"type": "not-factuality", "value": "x"}, "another model would be the judge"),
        ({"type": "contains", "value": "x", "transform": "output"}, "transform is not taken"),
    ],
)
def test_an_assertion_that_cannot_be_judged_is_told(rule, words):
    assert words in problem(rule)


@pytest.mark.parametrize(
    "schema, fitting, wrong",
    [
        ({"type": "integer", "minimum": 2}, "2.0", "1"),
        ({"type": ["string", "null"], "maxLength": 2}, "null", '"abc"'),
        ({"enum": [1, "a"]}, "1", "true"),
        ({"const": {"a": [0]}}, '{"a": [0]}', '{"a": [false]}'),
        ({"required": ["a"], "additionalProperties": False, "properties": {"a": {}}}, '{"a": 0}', '{"a": 0, "b": 0}'),
        ({"items": {"pattern": "^x"}, "minItems": 1}, '["x"]', "[]"),
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "1.5", "1"),
        ({"not": {"anyOf": [{"type": "object"}, {"type": "array"}]}}, "0", "{}"),
    ],
)
def test_a_schema_tells_a_fitting_answer(schema, fitting, wrong):
    rule = {"type": "is-json", "value": schema}
    assert problem(rule) == ""
    assert holds(rule, Reply(200, text=fitting))
    assert not holds(rule, Reply(200, text=wrong))
