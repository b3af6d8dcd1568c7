"""What the guard does reaches the journal: once each, whatever is cut off, and with no secret in it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from core_stack import open_journal, spec
from hypothesis import given, settings
from hypothesis import strategies as st
from test_guard import Door, running

from orchestrator.adapter import guard as process
from orchestrator.adapter.decide import Engine, Health, TakeOut
from orchestrator.adapter.notes import FILE, Notes
from orchestrator.commands.session import hear_guard, tell_guard
from orchestrator.commands.show import _guard, _guarded
from orchestrator.console import Console
from orchestrator.errors import MigrateError
from orchestrator.observe.guard import look
from orchestrator.workspace import Workspace


def lowered(notes: Notes, cause: str = "2 probes failed: no token within 20 s") -> None:
    notes.write("lowered", engine="a", cause=cause, weights={"m:1": [100.0, 0.0]}, version=8)


def test_an_event_says_what_when_and_why(tmp_path: Path) -> None:
    notes = Notes(tmp_path, lambda: 1000.5)
    lowered(notes)
    notes.write("replica", replica="a", out_s=120.0, cause="no sign of life for 3 s")
    notes.write("replica", replica="a", out_s=0.0, cause="it answers")
    notes.write("lease", owner="cutover 7", released=True)
    notes.write("gateway", ok=False, reason="ClientError: x")
    notes.write("start", engines=["a", "b"])
    found = look(tmp_path)
    assert [one.text for one in found] == [
        "m:1 100 % -> 0 %: 2 probes failed: no token within 20 s",
        "engine a gets no requests: no sign of life for 3 s",
        "engine a gets requests again: it answers",
        "the lease of cutover 7 has expired and is released",
        "the gateway does not answer: ClientError: x",
        "the guard has started; it watches a, b",
    ]
    assert [one.grave for one in found] == [True, True, False, False, False, False]
    assert {one.at for one in found} == {1000.5}
    assert found[0].data["weights"] == {"m:1": [100.0, 0.0]}
    assert found[0].data["id"] == found[0].id


def test_a_cut_off_line_costs_only_itself(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    lowered(notes, "first")
    whole = (tmp_path / FILE).read_bytes()
    for cut in range(len(whole)):
        (tmp_path / FILE).write_bytes(whole + whole[:cut])
        assert [one.data["cause"] for one in look(tmp_path)] == ["first"], "a line that is being written is no event yet"
        lowered(notes, "second")
        assert list({one.id: one.data["cause"] for one in look(tmp_path)}.values()) == ["first", "second"]


def test_the_files_are_bounded_and_the_newest_stays(tmp_path: Path) -> None:
    notes = Notes(tmp_path, most=2000)
    for number in range(200):
        lowered(notes, f"cause {number}")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4000
    assert len(list(tmp_path.iterdir())) == 2
    causes = [one.data["cause"] for one in look(tmp_path)]
    assert causes == [f"cause {number}" for number in range(200 - len(causes), 200)]


def test_whoever_runs_migrate_may_read_them(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        lowered(Notes(tmp_path))
    finally:
        os.umask(before)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o644


def test_a_folder_that_is_not_there_stops_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = Notes(tmp_path / "nowhere")
    lowered(notes)
    lowered(notes)
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(one["event"], one["ok"]) for one in said] == [("notes", False)], "said once"
    assert look(tmp_path / "nowhere") == []


def test_no_link_is_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / FILE).symlink_to(secret)
    lowered(Notes(tmp_path / "state"))
    assert secret.read_text() == ""
    secret.write_text('{"id": "1", "at": 1, "event": "start"}\n')
    assert look(tmp_path / "state") == []


junk = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=8,
)
fields = st.sampled_from(["id", "at", "event", "weights", "cause", "replica", "out_s", "owner", "engines", "ok", "reason"])
kinds = st.sampled_from(["lowered", "replica", "lease", "gateway", "start", "more"])
odd = st.dictionaries(fields, junk).map(lambda one: {"id": "x", "at": 5.0, **one})


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(odd, kinds, st.booleans()) | st.binary(max_size=60), max_size=5))
def test_no_file_is_too_odd_for_the_journal(tmp_path_factory: pytest.TempPathFactory, lines: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("notes")
    written = [one if isinstance(one, bytes) else json.dumps(one[0] | ({"event": one[1]} if one[2] else {})).encode()
               for one in lines]
    (folder / FILE).write_bytes(b"\n".join(written) + b"\n")
    journal = open_journal(folder / ".state", spec())
    found = look(folder, now=10.0)
    new = journal.take_over("guard", found)
    assert len(new) == len({one.id for one in found})
    assert journal.take_over("guard", look(folder, now=10.0)) == []
    for line in _guarded(_guard(journal.entries("guard"))):
        assert line.isprintable()
    journal.close()


def test_deep_nesting_and_long_lines_are_no_event(tmp_path: Path) -> None:
    lines = ["[" * 100_000, '{"id":"1","at":1,"event":"start","engines":' + "[" * 5000 + "]" * 5000 + "}",
             json.dumps({"id": "2", "at": 1, "event": "lowered", "cause": "x" * 20_000})]
    (tmp_path / FILE).write_text("\n".join(lines) + "\n")
    assert look(tmp_path) == []


def test_each_event_is_taken_over_once_by_commands_at_the_same_time(tmp_path: Path) -> None:
    folder = tmp_path / ".state" / "guard"
    folder.mkdir(parents=True)
    notes = Notes(folder)
    space, stop = Workspace(tmp_path), threading.Event()
    journals = [open_journal(tmp_path / ".state", spec()) for _ in range(3)]

    def hear(journal: Any) -> None:
        while not stop.is_set():
            hear_guard(space, journal)

    threads = [threading.Thread(target=hear, args=(one,)) for one in journals]
    for thread in threads:
        thread.start()
    for number in range(20):
        lowered(notes, f"cause {number}")
    stop.set()
    for thread in threads:
        thread.join()
    hear_guard(space, journals[0])
    assert sorted(one.data["cause"] for one in journals[0].entries("guard")) == sorted(f"cause {n}" for n in range(20))
    assert [one.at for one in journals[0].entries("guard")] == [one.at for one in look(folder)]


def test_a_journal_without_room_stops_no_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ".state" / "guard"
    folder.mkdir(parents=True)
    lowered(Notes(folder))
    journal, space = open_journal(tmp_path / ".state", spec()), Workspace(tmp_path)

    def full(*_: object, **__: object) -> int:
        raise MigrateError("cannot write the journal: disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(journal, "append", full)
        assert hear_guard(space, journal) == []
    assert len(hear_guard(space, journal)) == 1, "taken over once there is room"


def test_a_command_says_what_happened_since_the_last_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / ".state" / "guard"
    folder.mkdir(parents=True)
    notes = Notes(folder)
    for number in range(5):
        lowered(notes, f"cause {number}")
    notes.write("start", engines=["a"])
    journal = open_journal(tmp_path / ".state", spec())
    space = Workspace(tmp_path)
    tell_guard(Console(), hear_guard(space, journal))
    said = capsys.readouterr().err
    assert [f"cause {n}" in said for n in range(5)] == [False, False, True, True, True]
    assert "2 more" in said
    tell_guard(Console(), hear_guard(space, journal))
    assert capsys.readouterr().err == ""


def test_status_shows_what_the_guard_did(tmp_path: Path) -> None:
    notes = Notes(tmp_path, lambda: 1000.0)
    lowered(notes, "\x1b[2J evil")
    notes.write("replica", replica="a", out_s=0.0, cause="it answers")
    notes.write("start", engines=["a"])
    journal = open_journal(tmp_path / ".state", spec())
    journal.take_over("guard", look(tmp_path))
    data = _guard(journal.entries("guard"))
    assert [one["grave"] for one in data] == [True, False, False]
    lines = _guarded(data)
    assert len(lines) == 2
    assert lines[0].startswith("! guard, 1970-01-0")
    assert "\x1b" not in "".join(lines)


def test_a_running_guard_writes_down_what_it_does_and_no_token(tmp_path: Path) -> None:
    async def check() -> None:
        door = Door(m=100, o=100)
        async with running(door, tmp_path, interval_s=0.05, timeout_s=0.1) as watch:
            watch.door._notes = Notes(tmp_path)
            old = watch._settings
            watch.follow(process.Settings(old.gateway, old.token, (Engine("a", "m:1", ("m:1",)),), 0.05, 0.1, 2))
            watch.health["a"] = Health(2, "no token within 20 s")
            door.lease = {"owner": "cutover", "expires": 1, "fallback": {}}
            await watch._act(await watch.door.status())
            for seconds in (120.0, 120.0, 0.0):
                await watch.door.do(TakeOut("b", seconds, "silent"), {})
            await watch.close()
    asyncio.run(check())
    found = look(tmp_path)
    assert [(one.data["event"], one.subject) for one in found] == [
        ("lowered", "m:1"), ("lease", "lease"), ("replica", "b"), ("replica", "b"),
    ]
    token = process.load(tmp_path / "config.json").token
    assert token not in (tmp_path / FILE).read_text()
