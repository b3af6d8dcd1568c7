"""Errors that a user reads: what happened, the evidence, what to do next, and an exit code.

MigrateError
├── UsageError        bad flags or a bad spec                      (2)
├── GateRefused       a gate said no                               (3)
├── WrongState        wrong phase, or another run holds the stack  (4)
├── NeedsHuman        failed, and the way back failed too          (5)
├── Inconclusive      not enough data for a verdict                (7)
└── RolledBack        went back by itself                          (8)
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command; also printed by `migrate --help`."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    GATE = 3
    STATE = 4
    HUMAN = 5
    CHANGES = 6
    INCONCLUSIVE = 7
    ROLLED_BACK = 8
    INTERRUPTED = 130
    TERMINATED = 143


class MigrateError(Exception):
    """A failure that the user can act on.

    `message` says what happened, `evidence` shows it (log lines, numbers), `hint` says what to do next.
    """

    exit_code: ExitCode = ExitCode.FAILED

    def __init__(
        self, message: str, *, hint: str = "", evidence: str = "", code: ExitCode | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.evidence = evidence
        if code is not None:
            self.exit_code = code


class UsageError(MigrateError):
    exit_code = ExitCode.USAGE


class GateRefused(MigrateError):
    exit_code = ExitCode.GATE


class WrongState(MigrateError):
    exit_code = ExitCode.STATE


class NeedsHuman(MigrateError):
    exit_code = ExitCode.HUMAN


class Inconclusive(MigrateError):
    exit_code = ExitCode.INCONCLUSIVE


class RolledBack(MigrateError):
    exit_code = ExitCode.ROLLED_BACK
