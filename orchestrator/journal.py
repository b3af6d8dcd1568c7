"""The journal of a stack: append-only events in SQLite, states derived from them, one run at a time."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from orchestrator.errors import MigrateError, WrongState
from orchestrator.state import Event, States, fold, next_engine, next_route, next_stack

SCHEMA = """
CREATE TABLE IF NOT EXISTS run (
  id INTEGER PRIMARY KEY, command TEXT NOT NULL, pid INTEGER NOT NULL, who TEXT NOT NULL,
  exclusive INTEGER NOT NULL, started REAL NOT NULL, ended REAL, outcome TEXT, code INTEGER
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS one_active_run ON run(exclusive) WHERE ended IS NULL AND exclusive = 1;
CREATE TABLE IF NOT EXISTS event (
  id INTEGER PRIMARY KEY, run INTEGER REFERENCES run(id), at REAL NOT NULL,
  kind TEXT NOT NULL, subject TEXT NOT NULL, text TEXT NOT NULL, data TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS event_kind ON event(kind, subject);
"""
GLANCE_S = 0.3  # seconds that a free lock may seem taken, because somebody looks who holds it


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the journal; `at` in seconds since the epoch."""

    id: int
    run: int | None
    at: float
    kind: str
    subject: str
    text: str
    data: dict[str, Any]


class Told(Protocol):
    """An event that somebody else wrote down: `id` is in its data too, `at` in seconds since the epoch."""

    @property
    def id(self) -> str: ...
    @property
    def at(self) -> float: ...
    @property
    def subject(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def data(self) -> dict[str, Any]: ...


T = TypeVar("T", bound=Told)


class Journal:
    """Opens (and if need be makes) the journal in `state_dir`.

    WAL with synchronous=FULL: an acknowledged event survives kill -9 and power loss; readers never block.
    """

    def __init__(self, state_dir: Path, *, create: bool = True) -> None:
        self.dir = state_dir
        self._lock: IO[str] | None = None
        self.run: int | None = None
        self._routes: dict[str, bool] = {}
        self._engines: tuple[str, ...] = ()
        path = state_dir / "journal.db"
        try:
            if create:
                state_dir.mkdir(parents=True, exist_ok=True)
            elif not path.exists():
                raise WrongState(f"nothing has run yet in {state_dir.parent}", hint="run: migrate plan")
            self._db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise _broken(path, error) from error

    def close(self) -> None:
        self._db.close()

    # -- runs ---------------------------------------------------------------------------------------------

    @contextmanager
    def exclusive(self, command: str, wait_s: float = 0) -> Iterator[None]:
        """Hold the stack for one run; raises WrongState naming the holder. The kernel frees it on a crash."""
        self._take_lock(command, wait_s)
        try:
            # Whoever held the lock before is gone: a row without an end is a run that was killed.
            sweep = "UPDATE run SET ended=?, outcome='killed' WHERE ended IS NULL AND exclusive=1"
            self._execute(sweep, time.time())
            self.begin(command, exclusive=True)
            yield
        finally:
            self._drop_lock()

    def begin(self, command: str, *, exclusive: bool = False) -> None:
        """Open a run; events that follow belong to it."""
        self.run = self._execute(
            "INSERT INTO run(command,pid,who,exclusive,started) VALUES(?,?,?,?,?)",
            command, os.getpid(), _who(), int(exclusive), time.time(),
        ).lastrowid

    def end(self, outcome: str, code: int) -> None:
        """Close the open run with its exit code."""
        self._execute(
            "UPDATE run SET ended=?, outcome=?, code=? WHERE id=?", time.time(), outcome, code, self.run
        )
        self.run = None

    def runs(self) -> list[dict[str, Any]]:
        """All runs, oldest first, as dictionaries of the table's columns."""
        cursor = self._execute("SELECT * FROM run ORDER BY id")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def holder(self) -> str | None:
        """Who runs something on this stack now, or None."""
        path = self.dir / "lock"
        if not path.exists():
            return None
        with path.open("r+", encoding="utf-8") as probe:
            try:
                fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return probe.read().strip() or "another run"
        return None

    def _take_lock(self, command: str, wait_s: float) -> None:
        path = self.dir / "lock"
        # A `status` that looks for the holder has the lock for an instant: that is no other run.
        deadline = time.monotonic() + max(wait_s, GLANCE_S)
        try:
            # "a+" keeps the holder's line readable until we own the lock.
            handle = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise _broken(path, error) from error
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                handle.seek(0)
                holder = handle.read().strip()
                handle.close()
                hint = "wait for it, or watch it with: migrate status"
                raise WrongState(f"another run holds this stack: {holder}", hint=hint) from None
        handle.truncate(0)
        started = time.strftime("%H:%M:%S")
        handle.write(f"migrate {command}, pid {os.getpid()}, {_who()}, since {started}\n")
        handle.flush()
        self._lock = handle

    def _drop_lock(self) -> None:
        if self._lock:
            with suppress(OSError):
                self._lock.truncate(0)
            self._lock.close()
            self._lock = None

    # -- events -------------------------------------------------------------------------------------------

    def append(
        self, kind: str, subject: str, text: str, data: dict[str, Any] | None = None, at: float | None = None
    ) -> int:
        """Write one event durably and return its number; `at` where it happened before now."""
        return self._execute(
            "INSERT INTO event(run,at,kind,subject,text,data) VALUES(?,?,?,?,?,?)",
            self.run, time.time() if at is None else at, kind, subject, text, json.dumps(data or {}, sort_keys=True),
        ).lastrowid or 0

    def take_over(self, kind: str, told: Iterable[T]) -> list[T]:
        """Append what somebody else wrote down, each once, and return what is new; `data["id"]` tells it apart."""
        new = self._unknown(kind, told)
        if new:
            with self._alone():
                new = self._unknown(kind, new)      # another command may have been faster
                for one in new:
                    self.append(kind, one.subject, one.text, one.data, one.at)
        return new

    def _unknown(self, kind: str, told: Iterable[T]) -> list[T]:
        known = {entry.data.get("id") for entry in self.entries(kind)}
        return list({one.id: one for one in told if one.id not in known}.values())

    def entries(self, kind: str | None = None, subject: str | None = None) -> list[Entry]:
        """Events in order, of one kind and subject if asked."""
        where, values = [], []
        for column, value in (("kind", kind), ("subject", subject)):
            if value is not None:
                where.append(f"{column}=?")
                values.append(value)
        clause = f" WHERE {' AND '.join(where)}" if where else ""
        query = f"SELECT id,run,at,kind,subject,text,data FROM event{clause} ORDER BY id"  # noqa: S608
        rows = self._execute(query, *values)
        return [Entry(i, r, at, k, s, t, json.loads(d)) for i, r, at, k, s, t, d in rows]

    def last(self, kind: str, subject: str) -> Entry | None:
        """The newest event of a kind about a subject."""
        found = self.entries(kind, subject)
        return found[-1] if found else None

    # -- states -------------------------------------------------------------------------------------------

    def known(self, routes: dict[str, bool], engines: tuple[str, ...]) -> None:
        """Tell which routes (and whether they migrate) and engines the spec has now."""
        self._routes, self._engines = routes, engines

    def states(self) -> States:
        """Fold the events into the present."""
        moves = [(entry.subject, Event(entry.data["event"]), entry.at) for entry in self.entries("state")]
        return fold(moves, self._routes, self._engines)

    def move(self, what: str, name: str, event: Event) -> None:
        """Append a state event; `what` is route, engine or stack. The table must allow it."""
        with self._alone():
            now = self.states()
            if what == "route":
                next_route(now.routes[name], event)
            elif what == "engine":
                next_engine(now.engines[name], event)
            else:
                next_stack(now.stack, event)
            self.append("state", f"{what}/{name}", str(event), {"event": str(event)})

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Look and write with no other process's event between: a rollback may run beside a cutover."""
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._execute("ROLLBACK")
            raise
        self._execute("COMMIT")

    def _execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        try:
            return self._db.execute(sql, values)
        except sqlite3.IntegrityError as error:
            raise WrongState("another run of this stack is active", hint="migrate status") from error
        except sqlite3.Error as error:
            raise _broken(self.dir / "journal.db", error) from error


def _who() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = str(os.getuid())
    return f"{name}@{os.uname().nodename}"


def _broken(path: Path, error: Exception) -> MigrateError:
    if "full" in str(error).lower() or getattr(error, "errno", 0) == 28:
        hint = f"free some space below {path.parent}, then run the command again"
    else:
        hint = f"check that {path.parent} is a writable folder on a local disk"
    return MigrateError(f"cannot write the journal {path}: {error}", hint=hint)


