"""`migrate keys`: who may call. The file holds names and SHA-256 hashes; a key is shown once, when it is made."""

from __future__ import annotations

import fcntl
import hashlib
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from orchestrator.commands.session import gateway_of, workspace
from orchestrator.console import Console
from orchestrator.errors import ExitCode, MigrateError, UsageError
from orchestrator.events import Happening, Kind
from orchestrator.flags import Common
from orchestrator.render import replace_file
from orchestrator.spec import Spec
from orchestrator.spec_gateway import Keys
from orchestrator.workspace import Workspace

ACTIONS = ("add", "list", "remove", "grace", "enforce")
_LINE = re.compile(r"\s*(?:sha256:)?([0-9a-fA-F]{64})[\s*]+(\S.*?)\s*")
_MODE = re.compile(r"\s*mode:?\s+(grace|enforce)\s*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}")
_PREFIX = "sk-migrate-"  # some clients insist on sk-


def keys(console: Console, common: Common, action: str, owner: str | None = None) -> int:
    """Make, list or remove keys, or say what happens to callers without one; in effect within two seconds."""
    if action not in ACTIONS:
        raise UsageError(f"there is no `migrate keys {action}`", hint=f"known: {', '.join(ACTIONS)}")
    if (action in {"add", "remove"}) != (owner is not None):
        raise UsageError(f"migrate keys {action} needs {'a NAME' if owner is None else 'no name'}",
                         hint=f"such as: migrate keys {action}{' ci' if owner is None else ''}")  # fmt: skip
    space = workspace(common)
    spec = space.spec()
    asked = spec.gateway.keys or Keys()
    path = space.dir / asked.file
    if action == "list":
        return _list(console, path, _callers(space, spec) if spec.gateway.keys else {}, asked.mode)
    try:
        _change(console, path, action, owner or "")
    except OSError as error:
        raise MigrateError(f"cannot write {path}: {error.strerror or error}",
                           hint="correct gateway/keys/file in migrate.yaml") from error  # fmt: skip
    if spec.gateway.keys is None:
        text = f"{space.spec_path} asks for no keys yet, so anyone may call: add `keys: {{}}` below `gateway:`"
        console.emit(Happening(Kind.WARN, "keys", text))
    return ExitCode.DONE


def _change(console: Console, path: Path, action: str, name: str) -> None:
    with _locked(path):
        lines = _lines(path)
        names = [found[2] for line in lines if (found := _LINE.fullmatch(line))]
        if action == "add":
            key = _add(path, lines, names, name)
            console.answer(f"{key}\nShown this once: only its hash is kept, as {name!r} in {path}",
                           {"name": name, "key": key, "file": str(path)})  # fmt: skip
        elif action == "remove":
            if name not in names:
                known = f"known: {', '.join(names)}" if names else "there is none yet: migrate keys add NAME"
                raise UsageError(f"{path} has no key named {name!r}", hint=known)
            _write(path, [line for line in lines if not ((found := _LINE.fullmatch(line)) and found[2] == name)])
            console.answer(f"{name!r} may call no more", {"name": name, "file": str(path)})
        else:
            _write(path, [f"mode {action}", *(line for line in lines if not _MODE.fullmatch(line))])
            says = "are counted, and let in" if action == "grace" else "are refused"
            console.answer(f"callers without a key {says}", {"mode": action, "file": str(path)})


def _add(path: Path, lines: list[str], names: list[str], name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot name a key", hint="letters, digits and . _ @ -, up to 64, such as: team-a")
    if name in names:
        raise UsageError(f"{name!r} has a key already", hint=f"choose another, or first: migrate keys remove {name}")
    key = _PREFIX + secrets.token_urlsafe(32)
    _write(path, [*lines, f"{hashlib.sha256(key.encode()).hexdigest()}  {name}"])
    return key


def _list(console: Console, path: Path, callers: dict[str, int], mode: str) -> int:
    lines = _lines(path)
    names = [found[2] for line in lines if (found := _LINE.fullmatch(line))]
    mode = next((found[1] for line in reversed(lines) if (found := _MODE.fullmatch(line))), mode)
    text = [*names, f"{len(names)} key{'s' * (len(names) != 1)} in {path}, mode {mode}"]
    text += [f"! {count} requests without a key from {address}" for address, count in callers.items()]
    console.answer("\n".join(text), {"names": names, "file": str(path), "mode": mode, "callers": callers})
    return ExitCode.DONE


def _callers(space: Workspace, spec: Spec) -> dict[str, int]:
    """Return who called without a key since the gateway's start, as far as it answers."""
    with suppress(MigrateError):
        status = gateway_of(space, spec).status()
        if status.keys:
            return dict(status.keys.callers)
    return {}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}", hint="it should be a text file of hashes and names") from None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one change the file at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / f".{path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(path: Path, lines: list[str]) -> None:
    """Replace the file whole: the gateway mounts its folder and reads it every second."""
    replace_file(path, "".join(f"{line}\n" for line in lines), 0o600)
