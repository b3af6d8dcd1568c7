"""A process of its own that uses a journal; killed by the tests. Prints what was acknowledged."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from orchestrator.errors import MigrateError
from orchestrator.journal import Journal


def append_for_ever(folder: str) -> None:
    journal = Journal(Path(folder))
    with journal.exclusive("up"):
        number = 0
        while True:
            number += 1
            journal.append("count", "writer", str(number), {"number": number})
            print(number, flush=True)


def hold(folder: str) -> None:
    journal = Journal(Path(folder))
    with journal.exclusive("cutover"):
        print("held", flush=True)
        sys.stdin.readline()
        journal.end("done", 0)


def take(folder: str, wait: str = "0") -> None:
    try:
        with Journal(Path(folder)).exclusive("up", float(wait)):
            print("taken", flush=True)
            time.sleep(0)
    except MigrateError as error:
        print(error.message, flush=True)
        sys.exit(int(error.exit_code))


if __name__ == "__main__":
    {"append": append_for_ever, "hold": hold, "take": take}[sys.argv[1]](*sys.argv[2:])
