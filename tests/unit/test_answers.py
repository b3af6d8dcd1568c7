"""Two sides' answers -> verdict, from data files; MIGRATE_CASES points to another folder with an `answers/` in it."""

from __future__ import annotations

import json

import pytest
from decide_cases import cases, read

from orchestrator.checks.answers.record import Reply, loops
from orchestrator.checks.answers.terms import Terms
from orchestrator.checks.answers.whole import recompute


def reply(value):
    """A text, or the fields of a Reply; `repeat` writes its text so many times."""
    fields = {"text": value} if isinstance(value, str) else dict(value)
    fields["text"] = fields.get("text", "") * fields.pop("repeat", 1)
    return Reply.of({"status": 200, "finish_reason": "stop", **fields}).to_json()


def lines_of(data):
    """Raw lines as the gate keeps them: a prompt with `times: 20` stands for 20, with {n} in its texts."""
    terms = {key: getattr(Terms(), key) for key in Terms.__dataclass_fields__} | data.get("terms", {})
    smoke = {"model": "m:1", "names": [], "similarity": None}
    lines = [{"kind": "plan", "check": "parity", "target": "m:1", "terms": terms, "smoke": smoke, "notes": []},
             {"kind": "sampling", "sent": {}, "modelfile": data.get("modelfile")}]  # fmt: skip
    answers = []
    for at, prompt in enumerate(data["prompts"]):
        for n in range(prompt.get("times", 1)):
            one = json.loads(json.dumps(prompt).replace("{n}", str(n)))
            name = f"{one['group']}/{at}-{n}"
            lines.append({"kind": "case", "id": name, "group": one["group"], "ask": one.get("ask", "equal"),
                          "messages": [], "asserts": one.get("assert", [])})  # fmt: skip
            for side in ("ollama", "vllm"):
                given = one[side] if isinstance(one[side], list) else [one[side], one[side]]
                answers += [{"kind": "answer", "case": name, "side": side, "stop": None, **reply(v)} for v in given]
                if "stop" in one:
                    cut = {"kind": "answer", "case": name, "side": side, "stop": one["stop"]}
                    answers.append({**cut, **reply(one["cut"][side])})
    lost = [{"kind": "lost", "side": data["lost"], "why": "gone"}] if "lost" in data else []
    return lines + answers + lost


@pytest.mark.parametrize("path", cases("answers"), ids=lambda path: path.stem)
def test_the_verdict_on_two_sides_answers(path):
    data = read(path)
    lines = lines_of(data)
    verdict = recompute(lines)
    expect = data["expect"]
    groups = {group["name"]: group for group in verdict.evidence.get("groups", ())}
    told = {name: f"{group['result']}: {group['summary']}" for name, group in groups.items()}
    assert verdict.result == expect["result"], (verdict.summary, told)
    for name, result in expect.get("groups", {}).items():
        assert groups[name]["result"] == result, told
    for words in expect.get("says", ()):
        assert words in json.dumps([verdict.summary, told, verdict.evidence["sampling"]], ensure_ascii=False)
    if "first" in expect:
        assert verdict.summary.startswith(expect["first"]), verdict.summary
    if "shifts" in expect:
        assert groups["endings"]["facts"]["shifts"] == expect["shifts"]
    assert recompute(json.loads(json.dumps(lines))) == verdict


@pytest.mark.parametrize(
    "text, so",
    [
        ("na " * 30, True),
        ("The lamp is lit. " * 8, True),
        ("ab" * 10, False),
        ("One, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve.", False),
        ("A long and honest answer. " + "x" * 60, True),
        ("", False),
        ("\n" * 100, False),
        ("-" * 39, False),
    ],
)
def test_loops_are_told_from_lists(text, so):
    assert loops(text) is so


@pytest.mark.parametrize("lines", [[], [{"kind": "plan", "check": "load"}]])
def test_lines_of_another_check_are_refused(lines):
    with pytest.raises(ValueError, match="no plan of a parity check"):
        recompute(lines)
