"""Walks source trees for the files that may speak of Ollama; reads each once, and follows no links."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.decide.callers import find
from orchestrator.errors import UsageError
from orchestrator.facts import Caller

LARGEST = 4 * 2**20         # bytes; larger text is data
HEAD = 8192
EXCLUDED = frozenset({
    ".git", ".hg", ".svn", "node_modules", "bower_components", "jspm_packages", "venv", ".venv", "virtualenv",
    "site-packages", "dist-packages", "__pypackages__", "vendor", "_vendor", "third_party", "Godeps", "dist", "build",
    "target", "__pycache__", ".tox", ".nox", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".ipynb_checkpoints",
    ".next", ".nuxt", ".svelte-kit", ".gradle", ".terraform", ".eggs", ".cargo", ".yarn", ".pnpm-store", "Pods",
    "Carthage", ".dart_tool", ".direnv", ".pixi", ".cache", "htmlcov",
})  # fmt: skip
_SKIPPED = re.compile(
    r"\.(?:min\.(?:js|css)|map|lock|png|jpe?g|gif|webp|ico|svg|pdf|zip|gz|xz|bz2|zst|tar|tgz|jar|war|class|so|dll|exe"
    r"|dylib|o|a|pyc|pyo|whl|woff2?|ttf|otf|eot|mp[34]|avi|mov|wav|gguf|safetensors|bin|pt|pth|onnx|npy|npz|parquet"
    r"|sqlite3?|db)$|^(?:package-lock\.json|pnpm-lock\.yaml|npm-shrinkwrap\.json|go\.sum|composer\.lock)$",
    re.IGNORECASE,
)  # fmt: skip
# Of venv and virtualenv, conda, npm and pnpm, and of a stack that was rendered here.
_MARKS = (
    "pyvenv.cfg", "bin/activate_this.py", "conda-meta", ".package-lock.json", ".modules.yaml", "compose.eager.yaml",
)  # fmt: skip
_MINIFIED = 5000            # bytes a line, on average


@dataclass
class Tally:
    """What was looked at. `skipped`: reason -> files, for files left out unread or unreadable."""

    files: int = 0
    bytes: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    known: set[str] | None = None       # real paths that were read, kept where trees may overlap

    def skip(self, reason: str) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + 1


def roots(paths: Sequence[str]) -> list[Path]:
    """Return what is to be walked, this folder where nothing is named; raises UsageError with all that is missing."""
    missing = [path for path in paths if not _there(path)]
    if missing:
        raise UsageError(f"there is no {', '.join(missing)}", hint="name files or folders that exist")
    return list(dict.fromkeys(Path(path) for path in paths or (".",)))


def files(start: Sequence[Path], tally: Tally) -> Iterator[tuple[Path, str, str]]:
    """Yield (root, path as it is reported, text) of all roots, each file once where they overlap."""
    tally.known = set() if len(start) > 1 else None
    for root in start:
        for path, text in walk(root, tally):
            yield root, path.removeprefix("./"), text


def look(paths: Sequence[str]) -> tuple[tuple[Caller, ...], Tally]:
    """Return every place under `paths` that talks to Ollama, comments apart; raises UsageError."""
    tally = Tally()
    places = [one for _, path, text in files(roots(paths), tally) for one in find(path, text)]
    return tuple(one for one in places if one.kind != "doc"), tally


def walk(root: Path, tally: Tally) -> Iterator[tuple[str, str]]:
    """Yield (path, text) of each file under `root`, sorted, that mentions Ollama or its port.

    `root` may be a file, which is then read whatever its name. Excluded: vendored and built folders, lock files,
    minified, binary and huge files, and links (so no loops); `tally` counts what was left out.
    """
    if root.is_file():
        yield from _read(str(root), tally)
        return
    pending = [str(root)]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            tally.unreadable.append(folder)
            continue
        folders = []
        for entry in listed:
            kind = _kind(entry, tally)
            if kind == "folder":
                folders.append(entry.path)
            elif kind == "file":
                yield from _read(entry.path, tally)
        pending.extend(reversed(folders))


def _kind(entry: os.DirEntry[str], tally: Tally) -> str:
    try:
        if entry.is_symlink():
            tally.skip("link")
        elif entry.is_dir(follow_symlinks=False):
            if entry.name not in EXCLUDED and not _environment(entry.path):
                return "folder"
            tally.skip("vendored or built folder")
        elif entry.is_file(follow_symlinks=False):
            if not _SKIPPED.search(entry.name):
                return "file"
            tally.skip("binary, lock or minified file")
        else:
            tally.skip("not a regular file")
    except OSError:
        tally.unreadable.append(entry.path)
    return ""


def _there(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):       # a NUL in the name, a loop of links
        return False


def _environment(folder: str) -> bool:
    """Return whether this is an environment or a package tree under another name: by what its makers leave there."""
    return any(os.path.exists(f"{folder}/{mark}") for mark in _MARKS)  # noqa: PTH110 - once per folder: speed


def _read(path: str, tally: Tally) -> Iterator[tuple[str, str]]:
    if tally.known is not None:
        real = os.path.realpath(path)
        if real in tally.known:
            return
        tally.known.add(real)
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - 100,000 times: speed
            data = file.read(LARGEST + 1)
    except OSError:
        tally.unreadable.append(path)
        return
    tally.files += 1
    tally.bytes += len(data)
    if len(data) > LARGEST:
        tally.skip("larger than 4 MiB")
        return
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = data.decode("utf-16", "replace")
    elif not _speaks(data):
        return
    elif b"\0" in data[:HEAD]:
        tally.skip("binary, lock or minified file")
        return
    else:
        text = data.decode("utf-8", "surrogateescape")      # with its mark of order: a patch needs it
    if len(text) > _MINIFIED and len(text) / (text.count("\n") + 1) > _MINIFIED and not path.endswith(".ipynb"):
        tally.skip("binary, lock or minified file")
        return
    yield path, text


def _speaks(data: bytes) -> bool:
    return b"11434" in data or b"llama" in data or b"LLAMA" in data
