"""The files of a port swap in STACK/.state, through which the command and the detached helper talk."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from orchestrator.steps.swap_plan import SwapPlan, SwapResult


class SwapFiles:
    """The files of a stack's swap; all of them for the owner's eyes only."""

    def __init__(self, stack_dir: Path) -> None:
        self.state = stack_dir / ".state"
        self.plan, self.lock = self.state / "swap.json", self.state / "swap.lock"
        self.events, self.result, self.log = (
            self.state / name for name in ("swap.jsonl", "swap-result.json", "swap.log")
        )

    def private(self, path: Path, flags: int) -> IO[str]:
        """Opens a file for writing that nobody else may read."""
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o600), "w")

    def write(self, path: Path, text: str) -> None:
        """Writes a file whole or not at all."""
        fresh = path.with_suffix(path.suffix + ".new")
        with self.private(fresh, os.O_TRUNC) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)

    def append(self, event: dict[str, Any]) -> None:
        with self.private(self.events, os.O_APPEND) as file:
            file.write(json.dumps(event) + "\n")

    def read_plan(self) -> tuple[str, SwapPlan] | None:
        """(id, plan) of the last swap that was asked for."""
        if not self.plan.exists():
            return None
        text = self.plan.read_text()
        return json.loads(text)["id"], SwapPlan.loads(json.dumps(json.loads(text)["plan"]))

    def read_result(self, swap_id: str) -> SwapResult | None:
        result = SwapResult.load(self.result)
        return result if result and result.id == swap_id else None

    def holder(self) -> int | None:
        """The pid of the helper at work; None when there is none."""
        try:
            with self.lock.open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return None
        except BlockingIOError:
            return int(self.lock.read_text() or 0)
        return None

    def read_events(self, skip: int = 0) -> list[dict[str, Any]]:
        if not self.events.exists():
            return []
        lines = self.events.read_text().split("\n")[:-1]  # a last line without its end is still being written
        return [json.loads(line) for line in lines[skip:]]

    def last_log(self) -> str:
        return "\n".join(self.log.read_text().splitlines()[-8:]) if self.log.exists() else ""

    @contextlib.contextmanager
    def held(self) -> Iterator[bool]:
        """Takes the kernel lock; False when another helper has it. It goes with the process."""
        with os.fdopen(os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
            taken = _take(file)
            if taken:
                file.truncate(0)
                file.write(str(os.getpid()))
                file.flush()
            yield taken


def _take(file: IO[str]) -> bool:
    """Tries for a second: somebody who only looks whether it is held has it for an instant."""
    for _ in range(20):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return True
    return False
