"""The exit codes of `plan`: docs/plan.md lists them, scripts rely on them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_stage import MODEL, migrate, ollama

from orchestrator.commands import edit
from orchestrator.commands import plan as command
from orchestrator.console import Console
from orchestrator.flags import Common, Progress
from orchestrator.plan import Plan


@pytest.fixture(scope="module")
def url():
    with ollama() as found:
        yield found


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--cpu", "--exit-code"), 6),                      # written: up has something to do
        (("--cpu",), 0),
        (("--exit-code",), 0),                              # no GPU: to stay is a good answer
        ((), 0),
        (("--gpu", "24GiB,cc8.9", "--users", "40", "--force", "--exit-code"), 6),
        (("--no-such-flag",), 2),
        (("--gpu", "a lot"), 2),
        (("--model", "nobody:1b"), 2),
        (("--facts", "missing.json"), 2),
    ],
)  # fmt: skip
def test_what_a_script_sees(tmp_path: Path, url: str, words: tuple[str, ...], code: int) -> None:
    done = migrate(tmp_path, "plan", "--ollama", url, "--json", *words, HF_HUB_OFFLINE="1")
    assert done.returncode == code, done.stderr
    assert bool(done.stdout) == (code in (0, 6))
    if code == 0 and "--cpu" not in words:
        assert json.loads(done.stdout)["stack"] is None


def test_what_does_not_fit_is_a_gate(tmp_path: Path, url: str) -> None:
    arguments = ("plan", "--ollama", url, "--gpu", "24GiB,cc8.9", "--users", "40", "--force")
    assert migrate(tmp_path, *arguments, HF_HUB_OFFLINE="1").returncode == 0
    path = tmp_path / "stacks" / "main" / "migrate.yaml"
    text = path.read_text(encoding="utf-8")
    lines = ["    kv_cache: 900GiB" if "kv_cache:" in line else line for line in text.splitlines()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = migrate(tmp_path, *arguments, "--exit-code", HF_HUB_OFFLINE="1")
    assert done.returncode == 3, done.stderr
    assert "does not fit" in done.stderr


@pytest.mark.parametrize(("wanted", "code"), [(True, 0), (False, 0)])
def test_with_nothing_left_to_do_it_is_0(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, wanted: bool, code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(edit, "plan_up", lambda *_: Plan("up", "main", ()))
    sources = {"ollama": url, "facts": None, "volume": None, "gpus": (), "logs": (), "watch": None, "users": None}
    wish = {"models": (MODEL,), "cpu": True, "exit_code": wanted}
    console = Console(mode="quiet", json_answer=True)
    assert command.plan(console, Common(None, None, True, True, False, True, Progress.AUTO), sources=sources, wish=wish) == code


def test_the_document_says_the_same() -> None:
    text = (Path(__file__).parents[2] / "docs" / "plan.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith(("| plan |", "| doctor |", "| command | 0"))]
    assert "| command | 0 | 3 | 6 |" in rows
    assert any("with `--exit-code`" in row for row in rows)
