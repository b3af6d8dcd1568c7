"""`doctor`: is this machine ready, and what is wrong with a Compose file somebody wrote."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.clients.docker import Docker
from orchestrator.commands import composefile
from orchestrator.commands.session import workspace
from orchestrator.console import Console
from orchestrator.decide import preflight
from orchestrator.errors import ExitCode, MigrateError, UsageError
from orchestrator.facts import Facts
from orchestrator.flags import Common
from orchestrator.observe import preflight as trials
from orchestrator.observe import world
from orchestrator.workspace import begun

if TYPE_CHECKING:
    from orchestrator.spec import Spec

SIGNS = {"ok": "✓ ok  ", "warn": "! warn", "fail": "✗ FAIL", "not checked": "? not checked"}


def doctor(
    console: Console, common: Common, *, compose: tuple[str, ...] = (), gpu: str | None = None
) -> int:
    """Print what is right and what is not, each with its fix; exit code 3 when something fails."""
    if compose:
        return composefile.check(console, [Path(one) for one in compose], gpu)
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
