"""A verdict to move, and no GPU on which anything fits: nothing is written, and what was tried is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_stage import migrate
from plan_cases import facts

from orchestrator.observe import factsfile


@pytest.fixture
def small(tmp_path: Path) -> Path:
    found = facts({"gpus": ["12GiB cc8.6"], "models": ["llama3.1:8b"], "users": 8})
    path = tmp_path / "facts.json"
    path.write_text(factsfile.dumps(found), encoding="utf-8")
    return path


def test_nothing_is_written_and_taking_turns_is_told(tmp_path: Path, small: Path) -> None:
    done = migrate(tmp_path, "plan", "--facts", str(small), "--out", "kept.json", "--exit-code")
    assert done.returncode == 0, done.stderr
    assert "Nothing was written." in done.stdout
    assert "Hand-over" in done.stdout
    assert "OLLAMA_NUM_PARALLEL" in done.stdout      # what today's Ollama could be set to
    assert "steps of migrate up" not in done.stdout
    assert "kept.json was not written: there is no plan to keep" in done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.name != "facts.json"] in ([], ["stacks"])
    assert not list(tmp_path.glob("stacks/*/*"))
    assert not (tmp_path / "kept.json").exists()


def test_as_json(tmp_path: Path, small: Path) -> None:
    done = migrate(tmp_path, "plan", "--facts", str(small), "--json")
    told = json.loads(done.stdout)
    assert (told["stack"], told["dir"]) == (None, None)
    assert told["verdict"] == "consider"
    assert "GPU 0 has room for" in told["stays"]["llama3.1:8b"]
    assert told["handover"]["llama3.1:8b"]["refused"]
