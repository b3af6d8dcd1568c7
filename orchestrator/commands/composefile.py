"""`doctor --compose`: reads hand-written Compose files, several as Compose lays them over one another."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from orchestrator.console import Console
from orchestrator.decide import composecheck
from orchestrator.decide.finding import Finding
from orchestrator.errors import ExitCode, UsageError
from orchestrator.observe import preflight as trials

LARGEST = 1_000_000     # bytes of a Compose file
_CARD = re.compile(r"(?:(\d+)\s*x\s*)?(\d+(?:\.\d+)?)\s*(?:GiB|GB|G)?(?:\s*,\s*cc\s*(\d+(?:\.\d+)?))?", re.IGNORECASE)
_DEEPEST = 4    # includes within includes
_BREAK = "\n---\n"
_PLURAL = {"error": "errors", "warning": "warnings", "advice": "pieces of advice"}


def check(console: Console, paths: Sequence[Path], gpu: str | None) -> int:
    """Print each finding with its file, line and fix; exit code 3 when one is an error."""
    whole, folder = card(gpu) if gpu else None, paths[0].parent
    read = [pair for path in paths for pair in _with_included(path, _text(path), _DEEPEST)]
    paths, texts = [path for path, _ in read], [text for _, text in read]
    others = {name: text for one in texts for name, text in _mounted(one, folder).items()}
    found = composecheck.check(_BREAK.join(texts), card=whole, env=trials.dotenv(folder), others=others)
    placed = [_placed(one, paths, texts, others) for one in found]
    errors = sum(one.severity == "error" for _, one in placed)
    names = ", ".join(dict.fromkeys(map(str, paths)))
    data = {"file": names, "findings": [{**asdict(one), "file": name} for name, one in placed], "errors": errors}
    console.answer(_lines(names, placed, sized=whole is not None), data)
    return ExitCode.GATE if errors else ExitCode.DONE


def _with_included(path: Path, text: str, deep: int) -> list[tuple[Path, str]]:
    """Return the files that one includes, each before the one that does, and the file itself."""
    found = []
    for name in composecheck.included(text) if deep else ():
        inner = path.parent / name
        if inner.is_file() and inner.resolve() != path.resolve():
            found += _with_included(inner, _text(inner), deep - 1)
    return [*found, (path, text)]


def card(text: str) -> composecheck.Card:
    """Return the GPU behind `24GiB,cc8.9` or `2x80GiB`; GB counts as GiB, as on the cards' boxes."""
    found = _CARD.fullmatch(text.strip())
    if not found or float(found[2]) <= 0:
        hint = "such as --gpu 24GiB, --gpu 24GiB,cc8.9 or --gpu 2x80GiB,cc9.0"
        raise UsageError(f"--gpu {text!r} is no GPU", hint=hint)
    return composecheck.Card(int(float(found[2]) * 2**30), float(found[3] or 0), int(found[1] or 0))


def _placed(one: Finding, paths: Sequence[Path], texts: Sequence[str], others: dict[str, str]) -> tuple[str, Finding]:
    """Return the file that a finding is in, and the finding with its line there: the files were read as one."""
    if one.where in others:
        return one.where, one
    first = 1
    for path, text in zip(paths, texts, strict=True):
        after = first + text.count("\n") + _BREAK.count("\n")
        if one.line < after or path == paths[-1]:
            return str(path), replace(one, line=max(1, one.line - first + 1))
        first = after
    return str(paths[0]), one


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise UsageError(f"{path} is larger than {LARGEST // 1_000_000} MB, so it is hardly a Compose file")
        return path.read_bytes().decode("utf-8", errors="replace").lstrip("\ufeff")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint="migrate doctor --compose FILE") from None


def _mounted(text: str, folder: Path) -> dict[str, str]:
    """Return the small YAML files beside the Compose file that it names, such as LiteLLM's configuration."""
    found = {}
    for name in dict.fromkeys(re.findall(r"\./[\w./-]+\.ya?ml", text)):
        path = folder / name
        try:
            if path.is_file() and path.stat().st_size < LARGEST:
                content = path.read_text(encoding="utf-8")
                if "model_list" in content:
                    found[name] = content
        except (OSError, UnicodeDecodeError):
            continue
    return found


def _lines(names: str, placed: list[tuple[str, Finding]], *, sized: bool) -> str:
    lines = []
    for name, one in placed:
        lines.append(f"{one.severity:<8} {Path(name).name}:{one.line}  {one.where}: {one.what}")
        lines += [f"         because: {one.evidence}"] if one.evidence else []
        lines.append(f"         fix: {one.fix}")
    counts = Counter(str(one.severity) for _, one in placed)
    words = [f"{number} {key if number == 1 else _PLURAL[key]}" for key, number in counts.items()]
    lines.append(f"{names}: {', '.join(words) or 'nothing wrong was found'}")
    if not sized:
        lines.append("whether the engines fit the GPU was not judged; say its size: --gpu 24GiB,cc8.9")
    return "\n".join(lines)
