"""The exported k6 script, run in Node with k6's modules stood in for."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from orchestrator.checks import Side
from orchestrator.checks.loadplan import LoadPlan, closed_levels
from orchestrator.report.exports import k6

HERE = Path(__file__).parent
PLAN = LoadPlan((Side("ollama", "x"), Side("vllm", "y")), "llama3.1:8b", closed_levels((1, 5), 4))
WHOLE = 'data: {"choices": []}\n\ndata: {"usage": {"prompt_tokens": 9, "completion_tokens": 64}}\n\ndata: [DONE]\n\n'


def play(home: Path, folder: Path, level: str, answers: list[dict]) -> subprocess.CompletedProcess[str]:
    for name, text in k6(PLAN, "http://gateway:11434/").items():
        (folder / name).write_text(text, encoding="utf-8")
    return subprocess.run(
        [home / "bin" / "node", HERE / "browser" / "k6.mjs", folder / "load.k6.js"], capture_output=True, text=True,
        check=False, timeout=60, input=json.dumps({"level": level, "answers": answers}),
    )  # fmt: skip


def test_it_sends_our_requests_and_judges_the_answers(home, tmp_path):
    answers = [{"status": 200, "body": WHOLE}, {"status": 200, "body": "data: {}\n\n"}, {"status": 503, "body": None}]
    done = play(home, tmp_path, "5 users", answers)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["options"]["scenarios"]["load"]["vus"] == 5
    assert [one["body"] for one in found["sent"]] == [json.loads(PLAN.body(f"5 users/0/{n}")) for n in range(3)]
    assert {one["url"] for one in found["sent"]} == {"http://gateway:11434/v1/chat/completions"}
    assert found["sent"][0]["headers"]["Authorization"] == "Bearer k"
    assert [list(one.values()) for one in found["checks"]] == [[True, True], [True, False], [False, False]]
    assert found["tokens"] == [64]


@pytest.mark.parametrize("level", ["7 users", "__proto__"])
def test_a_level_that_is_not_there_is_named(home, tmp_path, level):
    done = play(home, tmp_path, level, [])
    assert done.returncode != 0
    assert "there are 1 user, 5 users" in done.stderr
