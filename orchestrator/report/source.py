"""What a report is made from: the stack's journal, its verdicts, and the raw lines beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import MigrateError
from orchestrator.journal import Entry, Journal
from orchestrator.report import ground
from orchestrator.report.onerun import BY_HAND, by_hand
from orchestrator.spec import Spec
from orchestrator.workspace import Workspace

JOURNAL = "journal.jsonl"
# What a report shows; the rest of the journal is for `up` alone.
_KINDS = ("plan", "outcome", "state", "verdict", "weights", "approved", "skip", "warn", "held", "guard")
_DATA = {
    "outcome": ("seconds", "text", "error", "digest"), "state": ("event",),
    "weights": ("weights", "at"), "approved": ("weight",),
    "verdict": ("summary", "weight", "result", "reasons", "vllm", "ollama", "needed", "raw", "reused"),
    "skip": ("reason",), "plan": ("verdict", "forced", "rehearsal", "reasons", "symptoms", "hours_lost_per_week",
                                  "missing"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kept:
    """A verdict as a gate kept it: `data` is its file, `file` that file's name."""

    check: str
    target: str
    data: dict[str, Any]
    file: str


@dataclass(frozen=True, slots=True)
class Material:
    """One look at a stack; `journal` are the lines that go with the report, what `plan` saw first."""

    spec: Spec
    folder: Path
    journal: tuple[dict[str, Any], ...]
    verdicts: tuple[Kept, ...]


def read(space: Workspace, spec: Spec, journal: Journal, at: float) -> Material:
    """Look once, `at` in seconds; needs no lock. Raises MigrateError where a file of evidence cannot be read."""
    folder = space.dir / "report"
    told = _told(journal)
    kept = (*_verdicts(folder), *_by_hand(folder)) if folder.is_dir() else ()
    lines = (_ground(space, spec, told, at), *told)
    return Material(spec, folder, lines, kept)


def _ground(space: Workspace, spec: Spec, told: Sequence[dict[str, Any]], at: float) -> dict[str, Any]:
    """Return what `plan` saw, as a line beside the journal's own."""
    facts = space.facts()
    data = {
        "traffic": ground.traffic(facts) if facts else None, "memory": ground.memory(spec, facts),
        "versions": ground.versions(spec, facts, told, space.spec_path.read_text(encoding="utf-8")),
    }  # fmt: skip
    return {"kind": "ground", "id": 0, "at": at, "subject": spec.name, "text": "", "data": data}


def _told(journal: Journal) -> tuple[dict[str, Any], ...]:
    return (*(_line(one) for one in journal.entries() if one.kind in _KINDS), *map(_run, journal.runs()))


def _line(entry: Entry) -> dict[str, Any]:
    wanted = _DATA.get(entry.kind, ())
    data = {key: entry.data[key] for key in wanted if key in entry.data}
    return {"kind": entry.kind, "id": entry.id, "at": entry.at, "subject": entry.subject, "text": entry.text,
            "data": data}  # fmt: skip


def _run(run: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "run", "id": run["id"], "at": run["started"], "subject": run["command"],
            "text": run["outcome"] or "", "data": {"ended": run["ended"], "code": run["code"]}}  # fmt: skip


def _verdicts(folder: Path) -> Iterator[Kept]:
    for path in sorted(folder.glob("*.json")):
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise MigrateError(
                f"the evidence {path} cannot be read: {error}", hint="run migrate up again: the gate makes it anew"
            ) from error
        if isinstance(data, dict) and {"check", "target", "result", "evidence"} <= data.keys():
            yield Kept(str(data["check"]), str(data["target"]), data, path.name)


def _by_hand(folder: Path) -> Iterator[Kept]:
    """Give the newest load test by hand of each model; one that ends in the middle is left out."""
    newest: dict[str, Kept] = {}
    for path in sorted(folder.glob(f"{BY_HAND}-*.jsonl"), key=lambda one: one.stat().st_mtime):
        try:
            lines, digest = lines_of(path)
            found = by_hand(lines)
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            continue
        raw = {"file": path.name, "lines": len(lines), "sha256": digest}
        data = {**found.to_json(), "at": path.stat().st_mtime, "raw": raw}
        newest[found.target] = Kept(BY_HAND, found.target, data, path.name)
    yield from newest.values()


def lines_of(path: Path) -> tuple[list[dict[str, Any]], str]:
    """Return a raw file's lines and its SHA-256; raises OSError, or ValueError naming the line that is no object."""
    content = path.read_bytes()
    found = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            one = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number} is not JSON") from error
        if not isinstance(one, dict):
            raise ValueError(f"line {number} is no JSON object")  # noqa: TRY004 - of a file
        found.append(one)
    return found, hashlib.sha256(content).hexdigest()
