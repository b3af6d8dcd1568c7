"""Writes a report: report.json, report.html, and the raw files that go with them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.errors import MigrateError
from orchestrator.report.answers import captured
from orchestrator.report.onerun import BY_HAND
from orchestrator.report.source import JOURNAL, Material, lines_of

_SHOWN = ("parity", "load", BY_HAND, "shift")     # checks of whose raw lines the page shows more than the verdict


@dataclass
class Raw:
    """The raw files: {file, lines, bytes, sha256} of each, the lines of those shown, the names of those left behind."""

    described: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    kept_back: list[str] = field(default_factory=list)


def keep_raw(material: Material, folder: Path) -> Raw:
    """Put the journal's lines and the raw file of each verdict into `folder`.

    One that holds what callers asked stays where it is. Raises MigrateError where something cannot be written.
    """
    found = Raw()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _put(folder / JOURNAL, (f"{json.dumps(line, sort_keys=True)}\n".encode() for line in material.journal))
        found.described.append(_described(folder / JOURNAL))
        for name, check in _names(material):
            _keep_one(material.folder / name, folder / name, found, shown=check in _SHOWN)
    except OSError as error:
        raise MigrateError(
            f"cannot write into {folder}: {error.strerror or error}", hint="choose a folder you may write: --out DIR"
        ) from error
    return found


def _keep_one(source: Path, target: Path, found: Raw, *, shown: bool) -> None:
    if not source.exists():
        return
    found.described.append(_described(source))
    private = False
    if shown:
        try:
            found.files[source.name], _ = lines_of(source)
        except ValueError as error:
            raise MigrateError(f"{source} cannot be read: {error}", hint="run migrate up again") from error
        private = captured(found.files[source.name])
    if source.resolve() == target.resolve():
        return
    if private:
        found.kept_back.append(source.name)
        return
    with source.open("rb") as file:
        _put(target, file)


def _names(material: Material) -> Iterator[tuple[str, str]]:
    """Name each raw file once, with its check: those of gates, then those of cutover steps."""
    lines = [(one.data.get("raw"), one.check) for one in material.verdicts]
    lines += [(line["data"].get("raw"), "shift") for line in material.journal
              if line["kind"] == "verdict" and "weight" in line["data"]]  # fmt: skip
    seen = {JOURNAL}
    for raw, check in lines:
        name = Path(str(raw["file"])).name if isinstance(raw, dict) and raw.get("file") else ""
        if name and name not in seen:
            seen.add(name)
            yield name, check


def _described(path: Path) -> dict[str, Any]:
    digest, lines, size = hashlib.sha256(), 0, 0
    with path.open("rb") as file:
        for line in file:
            digest.update(line)
            lines, size = lines + 1, size + len(line)
    return {"file": path.name, "lines": lines, "bytes": size, "sha256": digest.hexdigest()}


def _put(path: Path, lines: Iterable[bytes]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.writelines(lines)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def put_texts(folder: Path, texts: dict[str, str]) -> list[Path]:
    """Write whole files, readable by their owner alone: answers stand in them."""
    try:
        for name, text in texts.items():
            _put(folder / name, [text.encode()])
    except OSError as error:
        raise MigrateError(
            f"cannot write into {folder}: {error.strerror or error}", hint="choose a folder you may write: --out DIR"
        ) from error
    return [folder / name for name in texts]
