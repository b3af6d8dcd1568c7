"""Which evidence of traffic a plan takes: one kind only, and a container's log only where there is enough in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.commands import looking
from orchestrator.commands.looking import Sources
from orchestrator.console import Console
from orchestrator.errors import MigrateError, UsageError
from orchestrator.facts import Facts, OllamaContainer, OllamaFacts, Traffic
from orchestrator.observe import factsfile

CONTAINER = OllamaContainer("ollama", "0123", "ollama/ollama:0.32.6", "127.0.0.1", 11434)


class Docker:
    """A daemon with one log."""

    def __init__(self, lines: list[str] | MigrateError) -> None:
        self.lines = lines

    def log_lines(self, container: str, *, tail: int) -> Iterator[str]:
        assert container == CONTAINER.name
        assert tail > 0
        if isinstance(self.lines, MigrateError):
            raise self.lines
        return iter(self.lines)


def look(monkeypatch: pytest.MonkeyPatch, lines: Any, **sources: Any) -> Traffic:
    facts = Facts(OllamaFacts("http://127.0.0.1:11434", "0.32.6", container=CONTAINER))
    monkeypatch.setattr(looking.world, "look", lambda *_: facts)
    return looking.look(Console(mode="quiet"), Sources(**sources), Docker(lines), None).traffic  # type: ignore[arg-type]


def log(count: int, minutes: int) -> list[str]:
    return [f'[GIN] 2026/05/04 - {9 + at * minutes // count // 60:02d}:{at * minutes // count % 60:02d}:30 | 200 |'
            '  1.5s | 10.0.0.1 | POST     "/api/chat"' for at in range(count)]  # fmt: skip


def test_the_containers_own_log_is_read_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    found = look(monkeypatch, log(30, 120))
    assert (found.source, found.requests) == ("log", 30)


@pytest.mark.parametrize(("count", "minutes"), [(19, 120), (400, 20)])
def test_too_little_of_it_decides_nothing_and_says_so(monkeypatch: pytest.MonkeyPatch, count: int, minutes: int) -> None:
    found = look(monkeypatch, log(count, minutes))
    assert (found.source, found.requests) == ("none", 0)
    assert f"{count} requests" in found.notes[0]


def test_a_log_that_cannot_be_read_stops_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    assert look(monkeypatch, MigrateError("gone")).source == "none"


def test_a_statement_is_not_mixed_with_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    assert look(monkeypatch, log(30, 120), users=4).source == "stated"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"users": 0, "logs": ("x",)}, "--log and --users"),
        ({"users": 1, "watch": "5m"}, "--watch and --users"),
        ({"facts": "x", "ollama": "http://x"}, "--facts"),
        ({"volume": "x", "facts": "y"}, "--volume"),
    ],
)
def test_flags_that_contradict_each_other_are_named(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], named: str
) -> None:
    with pytest.raises(UsageError) as told:
        look(monkeypatch, [], **given)
    assert named in told.value.message


def test_scanned_places_are_facts_that_a_file_carries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(looking.world, "look", lambda *_: Facts(OllamaFacts("http://127.0.0.1:11434", "0.32.6")))
    (tmp_path / "a.py").write_text("import ollama\n# ollama.chat(\nollama.chat(keep_alive=0)\n")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.py").write_text("nothing")
    paths = (str(tmp_path), str(tmp_path / "a.py"))     # a file named twice is read once
    found = looking.look(Console(mode="quiet"), Sources(scan=paths), Docker([]), None)  # type: ignore[arg-type]
    assert [(one.line, one.kind, one.works) for one in found.callers] == [(1, "sdk", True), (3, "sdk", False)]
    assert found.scanned == 2
    file = tmp_path / "facts.json"
    file.write_text(factsfile.dumps(found))
    again = looking.look(Console(mode="quiet"), Sources(facts=str(file)), Docker([]), None)  # type: ignore[arg-type]
    assert (again.callers, again.scanned) == (found.callers, 2)


def test_a_tree_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking.world, "look", lambda *_: Facts(OllamaFacts("", "")))
    with pytest.raises(UsageError, match="no-such, nor-this"):
        looking.look(Console(mode="quiet"), Sources(scan=("no-such", "nor-this")), Docker([]), None)  # type: ignore[arg-type]
