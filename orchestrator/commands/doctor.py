"""`doctor`: is this machine ready, and what is wrong with a Compose file somebody wrote."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.clients.docker import Docker
from orchestrator.commands.session import workspace
from orchestrator.console import Console
from orchestrator.decide import composecheck, preflight
from orchestrator.errors import ExitCode, MigrateError, UsageError
from orchestrator.facts import Facts
from orchestrator.flags import Common
from orchestrator.observe import preflight as trials
from orchestrator.observe import world
from orchestrator.workspace import begun

if TYPE_CHECKING:
    from orchestrator.decide.finding import Finding
    from orchestrator.spec import Spec

LARGEST = 1_000_000     # bytes of a Compose file
SIGNS = {"ok": "✓ ok  ", "warn": "! warn", "fail": "✗ FAIL", "not checked": "? not checked"}
_CARD = re.compile(r"(?:(\d+)\s*x\s*)?(\d+(?:\.\d+)?)\s*(?:GiB|GB|G)?(?:\s*,\s*cc\s*(\d+(?:\.\d+)?))?", re.IGNORECASE)


def doctor(console: Console, common: Common, *, compose: str | None = None, gpu: str | None = None) -> int:
    """Print what is right and what is not, each with its fix; exit code 3 when something fails."""
    if compose is not None:
        return _compose(console, Path(compose), gpu)
    if gpu is not None:
        hint = "migrate doctor --compose FILE --gpu 24GiB"
        raise UsageError("--gpu says what a Compose file is meant for", hint=hint)
    spec, folder = _spec(common)
    facts = _facts(spec)
    env = {**os.environ, **trials.dotenv(folder)} if folder else dict(os.environ)
    results = preflight.check(facts, spec, trials.look(facts, spec, Docker(), env))
    ready = not preflight.failed(results)
    console.answer(_table(results), {"checks": [asdict(one) for one in results], "ready": ready})
    return ExitCode.DONE if ready else ExitCode.GATE


def card(text: str) -> composecheck.Card:
    """Return the GPU behind `24GiB,cc8.9` or `2x80GiB`; GB counts as GiB, as on the cards' boxes."""
    found = _CARD.fullmatch(text.strip())
    if not found or float(found[2]) <= 0:
        hint = "such as --gpu 24GiB, --gpu 24GiB,cc8.9 or --gpu 2x80GiB,cc9.0"
        raise UsageError(f"--gpu {text!r} is no GPU", hint=hint)
    return composecheck.Card(int(float(found[2]) * 2**30), float(found[3] or 0), int(found[1] or 0))


def _compose(console: Console, path: Path, gpu: str | None) -> int:
    text = _text(path)
    whole = card(gpu) if gpu else None
    findings = composecheck.check(text, card=whole, env=trials.dotenv(path.parent), others=_mounted(text, path.parent))
    counts = Counter(one.severity for one in findings)
    data = {"file": str(path), "findings": [asdict(one) for one in findings], "errors": counts["error"]}
    console.answer(_findings(path, findings, sized=whole is not None), data)
    return ExitCode.GATE if counts["error"] else ExitCode.DONE


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise UsageError(f"{path} is larger than {LARGEST // 1_000_000} MB, so it is hardly a Compose file")
        return path.read_bytes().decode("utf-8", errors="replace")
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


def _findings(path: Path, findings: list[Finding], *, sized: bool) -> str:
    counts = Counter(str(one.severity) for one in findings)
    lines = []
    for one in findings:
        lines.append(f"{one.severity:<8} {path.name}:{one.line}  {one.where}: {one.what}")
        lines += [f"         because: {one.evidence}"] if one.evidence else []
        lines.append(f"         fix: {one.fix}")
    plural = {"error": "errors", "warning": "warnings", "advice": "pieces of advice"}
    words = [f"{number} {key if number == 1 else plural[key]}" for key, number in counts.items()]
    lines.append(f"{path}: {', '.join(words) or 'nothing wrong was found'}")
    if not sized:
        lines.append("whether the engines fit the GPU was not judged; say its size: --gpu 24GiB,cc8.9")
    return "\n".join(lines)


def _spec(common: Common) -> tuple[Spec | None, Path | None]:
    if not (common.file or common.stack or begun()):
        return None, None
    space = workspace(common)
    return space.spec(), space.dir


def _facts(spec: Spec | None) -> Facts:
    """Return the world; without an Ollama the rest of it all the same."""
    docker = Docker()
    try:
        return world.look(spec.ollama.url if spec else None, docker)
    except MigrateError:
        return world.machine(docker)


def _table(results: list[preflight.Result]) -> str:
    lines: list[str] = []
    for one in results:
        lines.append(f"{SIGNS[one.status]}  {one.name}: {one.text}")
        lines += [f"        fix: {one.fix}"] if one.fix else []
    counts: Any = Counter(one.status for one in results)
    verdict = "not ready" if counts["fail"] else "ready"
    lines.append(f"{verdict}: {', '.join(f'{number} {word}' for word, number in counts.items())}")
    return "\n".join(lines)
