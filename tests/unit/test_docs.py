"""What the README says is so: commands, flags, targets, files, exit codes, the stack file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from orchestrator.cli import app
from orchestrator.errors import ExitCode
from orchestrator.spec import parse_spec

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]


def test_every_command_is_in_the_table_and_has_help():
    rows = set(re.findall(r"^\| `(\w+)", README, re.MULTILINE))
    assert set(COMMANDS) <= rows
    assert all(command.help for command in COMMANDS.values())


@pytest.mark.parametrize("name, words", re.findall(r"`?migrate (\w+)((?: --?[\w-]+)*)", README))
def test_every_command_line_exists_with_its_flags(name, words):
    assert name in COMMANDS
    known = {flag for parameter in COMMANDS[name].params for flag in (*parameter.opts, *parameter.secondary_opts)}
    assert set(words.split()) <= known | {"--help"}


def test_every_make_target_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"(?<![\w`-])make ([a-z-]+)(?=\s|`)", README)) - {"a"} <= targets


def test_every_link_leads_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_exit_codes_are_those_of_the_code():
    section = README.split("## Exit codes")[1].split("##")[0]
    assert {int(code) for code in re.findall(r"`(\d+)`", section)} == {int(code) for code in ExitCode}


def test_the_stack_file_shown_is_valid():
    shown = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert shown
    spec = parse_spec(shown[1])
    assert list(spec.migrating()) == ["llama3.1:8b"]
    assert yaml.safe_load(shown[1])["cutover"]["steps"] == [10, 50, 100]


def test_every_variable_of_a_suite_is_read_by_it():
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "orchestrator").rglob("*.py"))
    for name in re.findall(r"`([A-Z]+_[A-Z]+)` \(", README):
        assert name in tests + source, name


def test_env_example_names_only_variables_that_are_read():
    named = set(re.findall(r"^#? ?([A-Z][A-Z_]+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE))
    places = [*(ROOT / "orchestrator").rglob("*"), *(ROOT / "tools").rglob("*"), *(ROOT / "templates").rglob("*"),
              ROOT / "Makefile"]
    text = "".join(path.read_text(encoding="utf-8") for path in places if path.suffix in (".py", ".sh", ".j2", "")
                   and path.is_file())
    assert named
    assert {name for name in named if name not in text} == set()
