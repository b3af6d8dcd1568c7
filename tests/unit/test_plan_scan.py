"""`migrate plan --scan`: from a tree of source to the plan's words, its JSON, and back out of a file of facts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from plan_cases import facts
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.observe import factsfile

CASE: dict[str, Any] = {"gpus": ["24GiB cc8.9", "24GiB cc8.9"], "models": ["llama3.1:8b"], "users": 12}
SOURCE = {
    "app/chat.py": "import ollama\nollama.chat(model='llama3.1:8b', options={'num_ctx': 8192})\n",
    "deploy/app.env": "OLLAMA_BASE_URL=http://10.0.0.4:11434\n",
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in SOURCE.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "facts.json").write_text(factsfile.dumps(facts(CASE)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIGRATE_STACKS", str(tmp_path / "stacks"))
    return tmp_path


def plan(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["plan", "--facts", "facts.json", "--stack", "one", *arguments])
    assert done.exit_code == 0, done.output
    return " ".join(done.stdout.split())


def test_the_plan_names_what_would_not_work(place: Path) -> None:
    text = plan("--scan", "app", "--scan", "deploy")
    assert "source: 3 places in 2 files talk to Ollama (2 files read): 2 keep working unchanged, 1 would not" in text
    assert "app/chat.py:2: no effect on vLLM: the context is the engine's max_model_len" in text
    assert "migrate plan --scan" not in text


def test_without_a_scan_it_says_how(place: Path) -> None:
    assert "migrate plan --scan PATH finds the places in source" in plan()


def test_json_has_the_places_and_null_without_a_scan(place: Path) -> None:
    found = json.loads(plan("--scan", "app", "--json"))
    assert [(one["path"], one["line"], one["works"]) for one in found["callers"]] == [
        ("app/chat.py", 1, True), ("app/chat.py", 2, False)]
    assert found["scanned"] == 1
    bare = json.loads(plan("--json"))
    assert (bare["callers"], bare["scanned"]) == ([], None)


def test_a_path_that_is_not_there_stops_before_anything_is_written(place: Path) -> None:
    done = CliRunner().invoke(app, ["plan", "--facts", "facts.json", "--stack", "one", "--scan", "no1", "--scan", "no2"])
    assert done.exit_code == 2
    assert "no1, no2" in done.output
    assert not (place / "stacks").exists()
