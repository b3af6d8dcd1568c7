import json

import pytest

from orchestrator import console as module
from orchestrator.console import Console
from orchestrator.errors import ExitCode, GateRefused, MigrateError
from orchestrator.events import Happening, Kind

ERROR = GateRefused("too slow", evidence="p95 9 s\nlimit 3 s", hint="run: migrate up")


def test_the_answer_goes_to_stdout_and_the_talk_to_stderr(capsys):
    console = Console(mode="plain")
    console.emit(Happening(Kind.NOTE, "a", "talk"))
    console.answer("the answer", {"x": 1})
    out, err = capsys.readouterr()
    assert out == "the answer\n"
    assert "talk" in err


def test_json_answers_are_one_object(capsys):
    Console(mode="json", json_answer=True).answer("text", {"x": [1, 2]})
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "x": [1, 2]}


def test_json_events_are_one_object_a_line(capsys):
    console = Console(mode="json")
    for kind in Kind:
        console.emit(Happening(kind, "step x", "text\nwith [bold]lines[/bold]", {"result": "pass"}))
    out, err = capsys.readouterr()
    assert out == ""
    records = [json.loads(line) for line in err.splitlines()]
    assert [record["event"] for record in records] == [str(kind) for kind in Kind]
    assert all(record["schema"] == 1 and record["data"] == {"result": "pass"} for record in records)


@pytest.mark.parametrize("mode", ["json", "quiet", "plain"])
def test_with_json_an_error_is_one_object_on_stderr_whatever_the_progress(capsys, mode):
    Console(mode=mode, json_answer=True).error(ERROR)
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err) == {
        "schema": 1, "event": "error", "message": "too slow", "evidence": "p95 9 s\nlimit 3 s",
        "hint": "run: migrate up", "exit_code": 3,
    }  # fmt: skip


def test_the_most_important_line_of_an_error_comes_last(capsys):
    Console(mode="plain").error(ERROR)
    assert capsys.readouterr().err.splitlines() == [
        "  p95 9 s", "  limit 3 s", "error: too slow", "next:  run: migrate up",
    ]  # fmt: skip


def test_nothing_that_comes_from_outside_is_markup(capsys):
    console = Console(mode="plain")
    console.error(MigrateError("[red]x[/red] [/]", evidence="[bold]", hint="[link=x]"))
    console.emit(Happening(Kind.NOTE, "[a]", "[/b]"))
    console.answer("[c] {d}", {})
    out, err = capsys.readouterr()
    assert "[red]x[/red] [/]" in err
    assert "[a] [/b]" in err
    assert out == "[c] {d}\n"


def test_long_lines_are_not_broken(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    console = Console(mode="plain")
    console.answer("word " * 60, {})
    console.emit(Happening(Kind.NOTE, "x", "word " * 60))
    out, err = capsys.readouterr()
    assert (out.count("\n"), err.count("\n")) == (1, 1)


@pytest.mark.parametrize("mode, shown", [
    ("plain", ["phase", "start", "wait", "done", "skip", "note", "warn", "fail", "verdict"]),
    ("quiet", ["warn", "fail"]),
])
def test_what_each_mode_shows(capsys, mode, shown):
    console = Console(mode=mode)
    for kind in Kind:
        console.emit(Happening(kind, "x", f"<{kind}>", {"result": "pass"}))
    err = capsys.readouterr().err
    assert [str(kind) for kind in Kind if f"<{kind}>" in err] == shown


def test_every_kind_and_verdict_has_a_sign_not_only_a_colour(capsys):
    console = Console(mode="plain")
    for kind in (Kind.DONE, Kind.FAIL, Kind.WARN, Kind.SKIP):
        console.emit(Happening(kind, "x", "y"))
    for result in ("pass", "fail", "inconclusive"):
        console.emit(Happening(Kind.VERDICT, "x", "y", {"result": result}))
    signs = [line[0] for line in capsys.readouterr().err.splitlines()]
    assert signs == ["✓", "✗", "!", "=", "✓", "✗", "?"]


def test_a_wait_is_told_once_per_reason_and_again_after_a_while(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    console = Console(mode="plain")
    for reason, later in (("a", 0), ("a", 1), ("b", 1), ("b", 29), ("b", 1), ("b", 1)):
        now[0] += later
        console.emit(Happening(Kind.WAIT, "start", f"{reason} at {now[0]:g}", {"reason": reason}))
    assert capsys.readouterr().err.splitlines() == [
        "… start  a at 100", "… start  b at 102", "… start  b at 132",
    ]  # fmt: skip


def test_short_steps_show_no_time(capsys):
    console = Console(mode="plain")
    console.emit(Happening(Kind.DONE, "x", "y", {"seconds": 0.4}))
    console.emit(Happening(Kind.DONE, "x", "y", {"seconds": 61.5}))
    assert capsys.readouterr().err.splitlines() == ["✓ x y", "✓ x y  61.5 s"]


def test_a_pipe_is_plain_and_has_no_colour(capsys, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    console = Console()
    assert console.mode == "plain"
    console.error(ERROR)
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize("how", ["NO_COLOR", "flag"])
def test_no_color_wins_over_a_terminal(capsys, monkeypatch, how):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if how == "NO_COLOR":
        monkeypatch.setenv("NO_COLOR", "1")
    Console(mode="plain", no_color=how == "flag").error(ERROR)
    err = capsys.readouterr().err
    assert "error: too slow" in err.replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "")
    assert not any(f"\x1b[{number}" in err for number in ("31", "32", "33", "1;31"))


def test_exit_codes_are_what_is_promised():
    assert {code.name: int(code) for code in ExitCode} == {
        "DONE": 0, "FAILED": 1, "USAGE": 2, "GATE": 3, "STATE": 4, "HUMAN": 5, "CHANGES": 6, "INCONCLUSIVE": 7,
        "ROLLED_BACK": 8, "INTERRUPTED": 130, "TERMINATED": 143,
    }  # fmt: skip
