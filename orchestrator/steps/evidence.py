"""Files of evidence: written whole or not at all, readable by their owner alone where they hold answers."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestrator.checks import Verdict
from orchestrator.errors import MigrateError
from orchestrator.names import file_name
from orchestrator.render import replace_file


@dataclass(frozen=True, slots=True)
class Raw:
    """What a verdict was judged from: a file beside it, one JSON object a line, and its SHA-256."""

    file: str
    lines: int
    sha256: str


def keep_raw(path: Path, lines: Iterable[str]) -> Raw | None:
    """Write lines to `path`, mode 0600. Without any line an older file is removed: it belongs to another verdict."""
    digest, count = hashlib.sha256(), 0
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            for line in lines:
                data = line.encode() + b"\n"
                digest.update(data)
                file.write(data)
                count += 1
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        if not count:
            path.unlink()
    except OSError as error:
        raise _unwritten(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return Raw(path.name, count, digest.hexdigest()) if count else None


def verdict_path(folder: Path, verdict: Verdict) -> Path:
    """Return where the verdict lies in a stack's folder; its raw lines lie beside it, as .jsonl."""
    return folder / "report" / f"{verdict.check}-{file_name(verdict.target)}.json"


def keep_verdict(path: Path, verdict: Verdict, raw: Raw | None) -> None:
    """Write the verdict, with what its raw lines were."""
    found = {"schema": 1, "at": time.time(), **verdict.to_json(), "raw": asdict(raw) if raw else None}
    put(path, json.dumps(found, indent=1))


def put(path: Path, text: str) -> None:
    """Write a text whole."""
    try:
        replace_file(path, text, 0o644)
    except OSError as error:
        raise _unwritten(path, error) from error


def _unwritten(path: Path, error: OSError) -> MigrateError:
    hint = f"free some space or make {path.parent} writable, then run the command again"
    return MigrateError(f"cannot write {path}: {error.strerror or error}", hint=hint)
