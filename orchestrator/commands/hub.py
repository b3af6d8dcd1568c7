"""What the Hub says of a plan's repositories, frozen into the facts before anything is decided."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.clients.hub import Hub
from orchestrator.console import Console
from orchestrator.decide.adapters import on_host
from orchestrator.decide.candidates import candidates, renders
from orchestrator.decide.catalog import load
from orchestrator.decide.confirm import refusals
from orchestrator.decide.hubfact import UNCHECKED, usable
from orchestrator.decide.mapping import is_local
from orchestrator.errors import ExitCode, MigrateError
from orchestrator.events import Happening, Kind
from orchestrator.facts import Facts, HubFact
from orchestrator.observe import hub as look
from orchestrator.observe.preflight import dotenv
from orchestrator.spec import Spec


def seen(
    console: Console,
    facts: Facts,
    written: Spec | None = None,
    overrides: Mapping[str, Any] | None = None,
    models: tuple[str, ...] | None = None,
    *,
    folder: Path | None = None,
    offline: bool = False,
    force: bool = True,
) -> Facts:
    """Return facts with one look at every repository that the plan may name; a Hub that is silent costs seconds.

    `folder`: the stack's, whose .env may hold the token. Offline the local cache is read and nobody is asked.
    Without `force`, where the verdict is to stay, there is nothing to look at.
    """
    needed = written is not None or force or renders(facts, overrides or {})
    repos = candidates(facts, load(), written, overrides, models) if needed else ()
    if not repos:
        return replace(facts, hub=())
    env = {**os.environ, **(dotenv(folder) if folder else {}), **({"HF_HUB_OFFLINE": "1"} if offline else {})}
    console.emit(Happening(Kind.WAIT, "plan", "looking at the repositories on the Hub"))
    places = {repo: repo for repo in repos} | _places(written, folder)
    with Hub(env) as door:
        found = look.look([place for place in places.values() if place], door, look.PATIENCE_S)
    return replace(facts, hub=tuple(_fact(repo, place, found) for repo, place in places.items()))


def _places(written: Spec | None, folder: Path | None) -> dict[str, str]:
    """Return where on this machine the directories lie that engines name by their path inside; "": in a volume."""
    found = {}
    for engine in written.engines.values() if written else ():
        if is_local(engine.repo):
            here = on_host(engine, engine.repo)
            found[engine.repo] = str((folder or Path()) / Path(here).expanduser()) if here else ""
    return found


def _fact(repo: str, place: str, found: Mapping[str, HubFact]) -> HubFact:
    return replace(found[place], repo=repo) if place else HubFact(repo, UNCHECKED, f"{UNCHECKED} (it lies in a volume)")


def lines(console: Console, spec: Spec, facts: Facts) -> tuple[str, ...]:
    """Return what was seen of a spec's repositories, one line each; what will stop a download is warned of."""
    known = {one.repo: one for one in facts.hub}
    found = []
    for repo in dict.fromkeys(engine.repo for engine in spec.engines.values()):
        one = known.get(repo)
        found.append(f"{repo}: {one.said if one else f'{UNCHECKED} (the facts do not tell)'}")
        if one and not usable(one):
            console.emit(Happening(Kind.WARN, "hub", found[-1]))
    return tuple(found)


def require(spec: Spec, facts: Facts, where: str) -> None:
    """Raise MigrateError when a repository was seen to be none that the pinned vLLM loads."""
    found = refusals(spec, facts.hub, load())
    if found:
        raise MigrateError(
            "the plan would not start: " + found[0], evidence="\n".join(found),
            hint=f"name another repository in {where}, or leave the model on Ollama", code=ExitCode.GATE,
        )  # fmt: skip
