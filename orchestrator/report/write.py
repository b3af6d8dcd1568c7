"""Writes a report: report.json, report.html, and the raw files that go with them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from orchestrator.errors import MigrateError
from orchestrator.report.source import JOURNAL, Material


def keep_raw(material: Material, folder: Path) -> list[dict[str, Any]]:
    """Put the journal's lines and every raw file of a verdict into `folder`; return {file, lines, bytes, sha256}.

    Raises MigrateError where it cannot be written, or where a raw file is not what its verdict was judged from.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _put(folder / JOURNAL, (f"{json.dumps(line, sort_keys=True)}\n".encode() for line in material.journal))
        for name in _names(material):
            source, target = material.folder / name, folder / name
            if source.exists() and source.resolve() != target.resolve():
                with source.open("rb") as file:
                    _put(target, file)
        names = [JOURNAL, *(name for name in _names(material) if (folder / name).exists())]
        return [_described(folder / name) for name in names]
    except OSError as error:
        raise MigrateError(
            f"cannot write into {folder}: {error.strerror or error}", hint="choose a folder you may write: --out DIR"
        ) from error


def _names(material: Material) -> Iterator[str]:
    """Name each raw file once: those of gates, those of cutover steps, and lines that no verdict names."""
    seen = {JOURNAL}
    lines = [one.data.get("raw") for one in material.verdicts]
    lines += [line["data"].get("raw") for line in material.journal if line["kind"] == "verdict"]
    for raw in lines:
        name = Path(str(raw["file"])).name if isinstance(raw, dict) and raw.get("file") else ""
        if name and name not in seen:
            seen.add(name)
            yield name


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
