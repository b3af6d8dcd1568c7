"""What `up` asks of the machine before it touches anything: the certain errors of `doctor` stop it."""

from __future__ import annotations

import dataclasses
import os

from orchestrator.commands.session import Session
from orchestrator.decide import preflight
from orchestrator.errors import GateRefused
from orchestrator.events import Happening, Kind
from orchestrator.facts import Facts
from orchestrator.observe import preflight as trials
from orchestrator.observe import world


def require_ready(session: Session, *, skip: bool) -> None:
    """Refuse what would certainly break the deployment, each with its fix; warn of the rest.

    Ports are left to the take-over's own check, which follows and knows whose they are. With `skip` everything is a
    warning, and the journal says that it was overridden. Raises GateRefused.
    """
    spec, context = session.spec, session.context
    env = {**os.environ, **trials.dotenv(session.space.dir)}
    facts = _facts(session)
    results = [one for one in preflight.check(facts, spec, trials.look(facts, spec, context.docker, env))
               if not one.name.startswith("port")]  # fmt: skip
    blocks = preflight.blocking(results)
    for one in results:
        if one.status == "fail" and (skip or not one.blocks):
            context.emit(Happening(Kind.WARN, "doctor", str(one)))
    if blocks and skip:
        names = ", ".join(sorted({one.name for one in blocks}))
        context.emit(Happening(Kind.WARN, "doctor", f"went on against it, as --skip-doctor says: {names}"))
    elif blocks:
        count = f"{len(blocks)} thing{'' if len(blocks) == 1 else 's'}"
        raise GateRefused(
            f"this machine is not ready: {count} would break the deployment; nothing was touched",
            evidence="\n".join(f"{one.name}: {one.text}\n  fix: {one.fix}" for one in blocks),
            hint="mend that and run migrate up again; all checks: migrate doctor; to go on all the same: --skip-doctor",
        )


def _facts(session: Session) -> Facts:
    """Return the machine as it is now, with Ollama as the plan saw it: it may have moved behind the gateway since."""
    now, saved = world.machine(session.context.docker), session.context.facts
    return dataclasses.replace(now, ollama=saved.ollama) if saved else now
