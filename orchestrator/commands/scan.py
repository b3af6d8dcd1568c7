"""`migrate scan`: who talks to Ollama, what of it keeps working behind the gateway, and the edits for the rest."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

from orchestrator.console import Console
from orchestrator.decide.callers import find
from orchestrator.decide.callers.diff import migration
from orchestrator.decide.catalog import load
from orchestrator.errors import ExitCode, UsageError
from orchestrator.facts import Caller
from orchestrator.flags import Common
from orchestrator.observe.scan import Tally, files, roots
from orchestrator.spec import load_spec

BASE_URL = "http://localhost:11434/v1"


def scan(
    console: Console, common: Common, paths: tuple[str, ...], *, diff: bool = False, base_url: str | None = None
) -> int:
    """Look through `paths`; prints places, or with `diff` a patch. `base_url`: where /v1 is to be afterwards.

    With --file the names of that migrate.yaml are used, else the catalogue's. Raises UsageError for bad input.
    """
    start = roots(paths)
    target = _base_url(base_url)
    names = _spec_names(common)
    tally, callers, patch = Tally(), list[Caller](), list[str]()
    for root, path, text in files(start, tally):
        callers += find(path, text)
        if diff and not _wide(path, tally):
            patch += migration(_inside(Path(path).resolve(), root), text, _models(text, names), target)
    data = {"callers": [dataclasses.asdict(one) for one in callers], "files": tally.files, "skipped": tally.skipped,
            "unreadable": tally.unreadable, "diff": "".join(patch) if diff else None}  # fmt: skip
    if diff and not common.json:
        sys.stdout.buffer.write("".join(patch).encode("utf-8", "surrogateescape"))
        sys.stdout.flush()
    else:
        console.answer(report(callers, tally), _clean(data))
    return ExitCode.DONE


def _wide(path: str, tally: Tally) -> bool:
    """Return whether a file is UTF-16, for which no patch can be written as text."""
    with open(path, "rb") as file:  # noqa: PTH123 - once per file that was just read
        wide = file.read(2) in (b"\xff\xfe", b"\xfe\xff")
    if wide:
        tally.skip("UTF-16, not in the patch: edit by hand")
    return wide


def report(callers: list[Caller], tally: Tally) -> str:
    """Return the places as text: what needs a look first, then what keeps working, comments last."""
    live = [one for one in callers if one.kind != "doc"]
    parts = (
        ("Needs a look:", [one for one in live if not one.works]),
        ("Keeps working unchanged behind the gateway:", [one for one in live if one.works]),
        ("Comments and documentation:", [one for one in callers if one.kind == "doc"]),
    )
    lines = []
    for title, some in parts:
        if some:
            lines += [title, *_grouped(some, notes=title != parts[2][0]), ""]
    files = len({one.path for one in live})
    same = sum(one.works for one in live)
    lines.append(f"{_count(len(live), 'place')} in {_count(files, 'file')}; {same} keep working unchanged.")
    lines.append(f"{_count(tally.files, 'file')} read.")
    if tally.skipped:
        lines.append("Left out: " + ", ".join(f"{name} {count}" for name, count in sorted(tally.skipped.items())))
    if tally.unreadable:
        more = f" and {len(tally.unreadable) - 5} more" if len(tally.unreadable) > 5 else ""
        lines.append(f"Could not be read: {', '.join(tally.unreadable[:5])}{more}")
    if live:
        lines.append("To see the edits that move to /v1 or to Hugging Face names: migrate scan PATH… --diff")
    return _printable("\n".join(lines))


def _grouped(callers: list[Caller], *, notes: bool) -> list[str]:
    lines: list[str] = []
    note = None
    for one in sorted(callers, key=lambda one: (one.note if notes else "", one.path, one.line)):
        if notes and one.note != note:
            note = one.note
            lines.append(f"  {note}")
        lines.append(f"    {one.path}:{one.line}  [{one.kind}] {one.text}")
    return lines


def _base_url(given: str | None) -> str:
    url = (given or BASE_URL).rstrip("/")
    if not re.fullmatch(r"https?://[^\s'\"`\\]+", url):
        raise UsageError(f"--base-url {given!r} is no URL", hint="such as http://gpu-server:11434/v1")
    return url if url.endswith("/v1") else f"{url}/v1"


def _spec_names(common: Common) -> dict[str, str] | None:
    if not common.file:
        return None
    spec = load_spec(Path(common.file))
    return {name: spec.engines[route.engine].repo for model, route in spec.routes.items() if route.engine
            for name in (model, *route.names)}  # fmt: skip


def _models(text: str, names: dict[str, str] | None) -> dict[str, str]:
    """Return the names in this text that move, with their repositories; the catalogue's guesses stay out."""
    if names is not None:
        return names
    catalog = load()
    library = {entry.name for entry in catalog.entries}
    found = {}
    for word in set(re.findall(r"[A-Za-z][\w.-]*(?::[\w.-]+)?", text)):
        if word.partition(":")[0].lower() in library:
            match = catalog.find(word)
            if match and match.confidence != "guess" and match.entry.supported and match.entry.task != "embed":
                found[word] = match.repo
    return found


def _inside(path: Path, root: Path) -> str:
    """Return the path that a patch names: below the working folder, else below the folder that was scanned."""
    for base in (Path.cwd().resolve(), (root if root.is_dir() else root.parent).resolve()):
        if path.is_relative_to(base):
            return path.relative_to(base).as_posix()
    return path.as_posix()


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _printable(text: str) -> str:
    """Return text that any terminal takes: no control characters, no broken encoding."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(char if char == "\n" or char.isprintable() else "�" for char in text)


def _clean(data: dict[str, Any]) -> dict[str, Any]:
    def fix(value: Any) -> Any:
        if isinstance(value, str):
            return value.encode("utf-8", "replace").decode("utf-8")
        if isinstance(value, list):
            return [fix(one) for one in value]
        return {key: fix(one) for key, one in value.items()} if isinstance(value, dict) else value

    return {key: fix(value) for key, value in data.items()}
