import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from core_stack import MODEL, open_journal, prove, spec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from orchestrator.errors import ExitCode, MigrateError, WrongState
from orchestrator.journal import Journal
from orchestrator.state import EngineState, Event, RouteState, next_engine, next_route, next_stack

WRITER = Path(__file__).with_name("journal_writer.py")


@contextmanager
def writer(*words):
    child = subprocess.Popen(
        [sys.executable, str(WRITER), *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.communicate()


def test_events_come_back_in_order_with_their_run(tmp_path):
    journal = Journal(tmp_path)
    journal.append("note", "a", "before any run")
    with journal.exclusive("up"):
        journal.append("note", "b", "in it", {"n": [1, {"x": None}]})
        journal.append("other", "b", "too")
        run = journal.run
        journal.end("done", 0)
    assert [(one.subject, one.run) for one in journal.entries("note")] == [("a", None), ("b", run)]
    assert journal.entries(subject="b")[0].data == {"n": [1, {"x": None}]}
    assert journal.last("other", "b").text == "too"
    assert journal.last("other", "a") is None
    assert [one["outcome"] for one in journal.runs()] == ["done"]
    assert journal.runs()[0]["code"] == 0


@pytest.mark.parametrize("events", [1, 7, 40])
def test_kill_9_loses_no_acknowledged_event_and_the_next_run_begins(tmp_path, events):
    with writer("append", tmp_path) as child:
        seen = 0
        while seen < events:
            seen = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        rest, _ = child.communicate()
    seen = max([seen, *(int(line) for line in rest.splitlines() if line.strip())])
    journal = Journal(tmp_path)
    numbers = [one.data["number"] for one in journal.entries("count")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= seen
    assert journal.holder() is None
    assert journal.runs()[0]["ended"] is None
    with journal.exclusive("up"):
        assert [one["outcome"] for one in journal.runs()] == ["killed", None]
        assert journal.runs()[0]["ended"] is not None
        journal.append("note", "after", "goes on")
        journal.end("done", 0)
    assert [one["outcome"] for one in journal.runs()] == ["killed", "done"]
    assert sqlite3.connect(tmp_path / "journal.db").execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_second_run_is_refused_and_told_who_holds_the_stack(tmp_path):
    with writer("hold", tmp_path) as holder:
        assert holder.stdout.readline() == "held\n"
        with writer("take", tmp_path) as second:
            said, _ = second.communicate()
        assert second.returncode == ExitCode.STATE
        assert f"migrate cutover, pid {holder.pid}, " in said
        assert "since" in said
        journal = Journal(tmp_path, create=False)      # readers need no lock
        assert f"pid {holder.pid}" in journal.holder()
        assert journal.runs()[0]["command"] == "cutover"
        holder.communicate("\n")
    assert journal.holder() is None


def test_waiting_for_the_lock_gets_it_when_the_holder_leaves(tmp_path):
    with writer("hold", tmp_path) as holder:
        assert holder.stdout.readline() == "held\n"
        with writer("take", tmp_path, 60) as second:
            holder.stdin.write("\n")
            holder.stdin.flush()
            said, _ = second.communicate()
    assert (said, second.returncode) == ("taken\n", 0)


def test_a_reader_that_looks_for_the_holder_stops_no_run(tmp_path):
    journal = Journal(tmp_path)
    with journal.exclusive("up"):
        journal.end("done", 0)
    end = threading.Event()

    def look():
        reader = Journal(tmp_path, create=False)
        while not end.is_set():
            reader.holder()

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for _ in range(200):
            with journal.exclusive("up"):
                journal.run = None
    finally:
        end.set()
        looker.join()


def test_a_run_that_could_not_begin_leaves_the_lock_free(tmp_path, monkeypatch):
    journal = Journal(tmp_path)
    monkeypatch.setattr(journal, "begin", lambda *_, **__: (_ for _ in ()).throw(MigrateError("full")))
    with pytest.raises(MigrateError, match="full"), journal.exclusive("up"):
        pass
    assert Journal(tmp_path).holder() is None


def test_a_run_without_the_lock_may_run_beside_one_that_holds_it(tmp_path):
    first, second = Journal(tmp_path), Journal(tmp_path)
    with first.exclusive("cutover"):
        second.begin("rollback")
        second.append("note", "x", "y")
        second.end("done", 0)
        first.end("done", 0)
    assert [one["command"] for one in first.runs()] == ["cutover", "rollback"]


def test_two_active_exclusive_runs_cannot_be_written_even_without_the_lock(tmp_path):
    first, second = Journal(tmp_path), Journal(tmp_path)
    first.begin("up", exclusive=True)
    with pytest.raises(WrongState, match="another run"):
        second.begin("up", exclusive=True)


def test_nothing_has_run_yet(tmp_path):
    with pytest.raises(WrongState, match="nothing has run yet") as caught:
        Journal(tmp_path / ".state", create=False)
    assert caught.value.hint == "run: migrate plan"
    assert not (tmp_path / ".state").exists()


def test_a_folder_that_cannot_be_written_has_a_hint(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MigrateError, match="cannot write the journal") as caught:
        Journal(tmp_path / "file" / ".state")
    assert "writable folder" in caught.value.hint


def test_a_lock_that_cannot_be_opened_has_a_hint(tmp_path):
    journal = Journal(tmp_path)
    (tmp_path / "lock").mkdir()
    with pytest.raises(MigrateError) as caught, journal.exclusive("up"):
        pass
    assert caught.value.hint


def test_a_full_disk_is_told(tmp_path):
    journal = Journal(tmp_path)
    journal._execute("PRAGMA max_page_count=20")
    with pytest.raises(MigrateError, match="full") as caught:
        journal.append("note", "x", "y" * 20 * 4096)
    assert "free some space" in caught.value.hint


def test_what_is_no_database_is_told(tmp_path):
    (tmp_path / "journal.db").write_bytes(b"something else entirely, and long enough" * 100)
    with pytest.raises(MigrateError, match="not a database") as caught:
        Journal(tmp_path)
    assert caught.value.hint


def test_a_move_that_the_table_forbids_writes_nothing(tmp_path):
    journal = open_journal(tmp_path, spec())
    with pytest.raises(WrongState):
        journal.move("route", MODEL, Event.SHIFTED)
    assert journal.entries() == []
    prove(journal, MODEL)
    assert journal.states().routes[MODEL] is RouteState.PROVEN


def test_moves_of_two_processes_never_leave_a_history_that_the_table_forbids(tmp_path):
    """A rollback beside a cutover: whoever comes second is refused, and the journal can still be read."""
    journals = [open_journal(tmp_path, spec()) for _ in range(2)]
    prove(journals[0], MODEL)

    def shift():
        for _ in range(60):
            for event in (Event.SHIFTED, Event.ARRIVED):
                try:
                    journals[0].move("route", MODEL, event)
                except WrongState:
                    continue

    def back():
        for _ in range(120):
            journals[1].move("route", MODEL, Event.ROLLED_BACK)

    threads = [threading.Thread(target=one) for one in (shift, back)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert open_journal(tmp_path, spec()).states().routes[MODEL] in RouteState


class Replay(RuleBasedStateMachine):
    """Moves, with the process gone between any two writes: what is replayed is what was acknowledged."""

    def __init__(self):
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.of = spec(routes={MODEL: {"engine": "llama"}, "b:1": {"engine": "llama"}, "stay:1": {}})
        self.journal = open_journal(Path(self.folder.name), self.of)
        self.routes = {MODEL: RouteState.PLANNED, "b:1": RouteState.PLANNED}
        self.engine = EngineState.ABSENT
        self.stack = self.journal.states().stack
        self.running = None

    @rule(model=st.sampled_from([MODEL, "b:1"]), event=st.sampled_from(Event))
    def move_route(self, model, event):
        self.routes[model] = self.moved("route", model, event, next_route, self.routes[model])

    @rule(event=st.sampled_from(Event))
    def move_engine(self, event):
        self.engine = self.moved("engine", "llama", event, next_engine, self.engine)

    @rule(event=st.sampled_from(Event))
    def move_stack(self, event):
        self.stack = self.moved("stack", "demo", event, next_stack, self.stack)

    def moved(self, what, name, event, table, before):
        count = len(self.journal.entries())
        try:
            after = table(before, event)
        except WrongState:
            with pytest.raises(WrongState):
                self.journal.move(what, name, event)
            assert len(self.journal.entries()) == count
            return before
        self.journal.move(what, name, event)
        return after

    @precondition(lambda self: self.running is None)
    @rule(command=st.sampled_from(["up", "cutover"]))
    def begin(self, command):
        self.running = self.journal.exclusive(command)
        self.running.__enter__()

    @precondition(lambda self: self.running is not None)
    @rule()
    def end(self):
        self.journal.end("done", 0)
        self.running.__exit__(None, None, None)
        self.running = None

    @rule()
    def crash(self):
        """What kill -9 does: the connection and the lock are gone, nothing is tidied."""
        if self.journal._lock:
            os.close(os.dup(self.journal._lock.fileno()))
            self.journal._lock.close()
            self.journal._lock = None
        if self.running:
            self.running.gen.close()
        self.running = None
        self.journal.close()
        self.journal = open_journal(Path(self.folder.name), self.of)

    @invariant()
    def the_same_states_are_read(self):
        found = self.journal.states()
        assert found.routes == {**self.routes, "stay:1": RouteState.STAYS}
        assert found.engines == {"llama": self.engine}
        assert found.stack is self.stack

    @invariant()
    def at_most_one_run_is_open(self):
        assert sum(one["ended"] is None for one in self.journal.runs()) <= 1

    def teardown(self):
        if self.running:
            self.running.__exit__(None, None, None)
        self.journal.close()
        self.folder.cleanup()


Replay.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
test_replay = Replay.TestCase
