"""The LoRA adapters of a stack, looked at for a plan, for `up` and for `migrate facts`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.clients.hub import Hub
from orchestrator.commands.session import Session, workspace
from orchestrator.decide import adapters
from orchestrator.errors import UsageError
from orchestrator.facts import Facts
from orchestrator.flags import Common
from orchestrator.observe import adapter as look
from orchestrator.observe.preflight import dotenv
from orchestrator.spec import Spec
from orchestrator.spec_engine import Engine


def seen(
    facts: Facts, written: Spec | None, overrides: Mapping[str, Any], folder: Path, *, elsewhere: bool = False
) -> Facts:
    """Return facts with what the file, or what is laid over a proposal, names as adapters.

    `elsewhere`: the plan is for another machine; what its facts hold counts, and no network is asked.
    """
    engines = written.engines if written else _laid(overrides)
    kept = {(one.engine, one.name, one.where): one for one in facts.adapters} if elsewhere else {}
    if not any(one.adapters for one in engines.values()):
        return replace(facts, adapters=())
    # The token may lie in the stack's .env, as for the engines' own repositories.
    with Hub({**os.environ, **dotenv(folder)}) as hub:
        found = look.look(engines, folder, hub, ask=not elsewhere)
    return replace(facts, adapters=tuple(kept.get((one.engine, one.name, one.where), one) for one in found))


def _laid(overrides: Mapping[str, Any]) -> dict[str, Engine]:
    """Return the engines of the overrides as far as they name adapters; the whole is validated with the proposal."""
    engines = overrides.get("engines")
    found = {}
    for name, one in engines.items() if isinstance(engines, dict) else ():
        named = one.get("adapters") if isinstance(one, dict) else None
        if isinstance(named, dict):
            said = {str(key): where for key, where in named.items() if isinstance(where, str)}
            mounts = tuple(mount for mount in one.get("volumes") or () if isinstance(mount, str))
            found[str(name)] = Engine.model_construct(repo="", adapters=said, volumes=mounts)
    return found


def require(session: Session) -> None:
    """Look again before `up`: raises UsageError when an adapter has gone or was exchanged for one vLLM refuses."""
    before = session.context.facts
    if before is not None:
        now = seen(before, session.spec, {}, session.space.dir)
        session.context = replace(session.context, facts=now)
        adapters.require(session.spec, now, str(session.space.spec_path))


def of_stack(facts: Facts, common: Common) -> Facts:
    """Return facts with the adapters of the stack that the flags mean, where there is one."""
    try:
        space = workspace(common)
        written = space.spec() if space.spec_path.exists() else None
    except UsageError:
        return facts
    return seen(facts, written, {}, space.dir) if written else facts
