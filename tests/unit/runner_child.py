"""A command in a process of its own: a step that waits, one that listens to nobody, one that passes."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

from orchestrator.commands.session import Session
from orchestrator.console import Console
from orchestrator.errors import MigrateError
from orchestrator.journal import Journal
from orchestrator.plan import Plan, Step
from orchestrator.stop import Stop, poll


class Act:
    def __init__(self, name: str, stop: Stop) -> None:
        self.name, self.stop = name, stop

    def already_done(self) -> bool:
        return False

    def do(self) -> dict[str, str]:
        if self.name == "waits":
            print("ready", flush=True)
            poll(lambda: None, 600, self.stop)
        if self.name == "deaf":
            end = time.monotonic() + 600
            print("ready", flush=True)
            while time.monotonic() < end:
                time.sleep(0.05)
                if self.stop._asked.is_set():
                    print("ready", flush=True)
                    while True:
                        time.sleep(1)
        print("did", flush=True)
        return {}

    def undo(self) -> None:
        print("undone", flush=True)


def main(folder: str, mode: str) -> int:
    session = Session.__new__(Session)      # only the run's frame: no Docker, no stack
    session.console = Console(mode="plain")
    session.journal = Journal(Path(folder))
    session.stop = Stop(session.console.emit)
    session.yes = True
    session._build = lambda step: Act(step.target, session.stop)
    first = {"wait": "waits", "deaf": "deaf", "pass": "passes"}[mode]
    plan = Plan("up", "demo", (Step("step", first, "why"), Step("step", "never", "why")))
    try:
        with session.running("up"):
            session.run(plan)
    except MigrateError as error:
        session.console.error(error)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main(*sys.argv[1:]))
