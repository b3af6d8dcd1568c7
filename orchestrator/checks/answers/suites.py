"""The suites that a stack file names: the built-in one, files of the user's own, folders of captured traffic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator.checks.answers.builtin import builtin_suite
from orchestrator.checks.answers.case import BUILTIN, Case
from orchestrator.checks.answers.promptfoo import read_suite
from orchestrator.checks.answers.traffic import read_traffic
from orchestrator.errors import UsageError


def load_suites(
    names: Sequence[str], folder: Path, model: str, only: Sequence[str] | None = None
) -> tuple[tuple[Case, ...], tuple[str, ...]]:
    """Return the cases of all suites, and notes on what of them is not asked.

    Paths are relative to `folder`; of captured traffic only what was asked of `model` counts; `only`: groups.
    UsageError names every mistake of every file at once.
    """
    cases: list[Case] = []
    notes: list[str] = []
    mistakes: list[str] = []
    for name in dict.fromkeys(names):
        if name == BUILTIN:
            cases += builtin_suite()
        elif (folder / name).is_dir():
            found, said = read_traffic(folder / name, name, model)
            cases += found
            notes += said if found else [*said, f"{name}: no captured request for {model}"]
        else:
            found, said, wrong = read_suite(folder / name, name)
            cases += found
            notes += said
            mistakes += wrong
    if mistakes:
        raise UsageError("The parity suites have mistakes", evidence="\n".join(mistakes),
                         hint="correct them, or take the file out of parity.suites")  # fmt: skip
    if only is not None:
        known = {case.group for case in cases}
        if unknown := [one for one in only if one not in known]:
            raise UsageError(f"parity.groups: no such group: {', '.join(unknown)}",
                             hint=f"there are {', '.join(sorted(known))}")  # fmt: skip
        cases = [case for case in cases if case.group in only]
    return _unique(cases), tuple(notes)


def _unique(cases: Sequence[Case]) -> tuple[Case, ...]:
    """Two suites may use an id: the second gets a number."""
    seen: Counter[str] = Counter()
    found = []
    for case in cases:
        seen[case.id] += 1
        found.append(case if seen[case.id] == 1 else replace(case, id=f"{case.id}#{seen[case.id]}"))
    return tuple(found)
