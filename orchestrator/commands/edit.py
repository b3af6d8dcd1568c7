"""An edit of a deployed stack: what runs now, the edit carried out, and everything put back when it fails."""

from __future__ import annotations

import dataclasses
from contextlib import suppress

from orchestrator import plan as plans
from orchestrator.commands.session import Session, context_of, gateway_of, know, open_journal
from orchestrator.console import Console
from orchestrator.errors import GateRefused, Inconclusive, MigrateError
from orchestrator.events import Happening, Kind
from orchestrator.facts import Facts
from orchestrator.journal import Journal
from orchestrator.names import canonical
from orchestrator.plan import Plan, Step
from orchestrator.plan.edits import Change, Deployed, between, changes
from orchestrator.plan.up import FIRST, THEN
from orchestrator.runner import run_plan
from orchestrator.spec import Spec
from orchestrator.state import StackState
from orchestrator.steps import Context
from orchestrator.steps.lease import approved_of, held
from orchestrator.steps.registry import build
from orchestrator.stop import Interrupted, Stop
from orchestrator.workspace import Workspace


def running_spec(space: Workspace, spec: Spec, journal: Journal) -> Spec:
    """Return the spec of everything that may run now, and tell the journal its names.

    It is `spec` itself until the gateway has the port; then what the last `up` deployed counts, too.
    """
    old = space.deployed()
    if old is None or journal.states().stack is not StackState.TAKEN_OVER:
        return spec
    whole = between(old, spec)
    know(journal, whole)
    return whole


def deployed(
    space: Workspace, spec: Spec, journal: Journal, facts: Facts | None = None, *, look: bool = True
) -> Deployed:
    """Return what `plan_up` has to know of what runs; without a look at the gateway approved weights count."""
    whole = running_spec(space, spec, journal)
    if whole is spec:
        return Deployed()
    weights = approved_of(journal, whole.migrating())
    if look and any(weights.values()):
        with suppress(MigrateError), gateway_of(space, whole) as gateway:
            now = gateway.status().weights
            weights = {model: min(weight, now.get(model, 0.0)) for model, weight in weights.items()}
    return Deployed(space.deployed(), weights, held(journal), _gone(whole, facts))


def plan_up(console: Console, space: Workspace, spec: Spec, journal: Journal, before: Deployed) -> Plan:
    """Return the steps of `up`: for `plan`, which prints them, and for `up`, which runs them.

    Of a stack that serves, the world is asked which of them are done already.
    """
    states = journal.states()
    whole = plans.plan_up(spec, states, before)
    if before.spec is None:
        return whole
    context = context_of(space, spec, journal, console.emit, Stop(console.emit))
    settled = frozenset(str(step) for step in whole.steps if _settled(context, step))
    return plans.plan_up(spec, states, dataclasses.replace(before, settled=settled))


def _settled(context: Context, step: Step) -> bool:
    """Whether a step is done already; what cannot be told, for Docker is away, is not."""
    if step.kind not in (*FIRST, *THEN):
        return False
    try:
        return build(step, context).already_done()
    except MigrateError:
        return False


def found(spec: Spec, journal: Journal, before: Deployed) -> list[Change]:
    """Return what the edit of what runs does, as `plan` says it."""
    return changes(before.spec, spec, journal.states(), before.held) if before.spec else []


def serves(space: Workspace, spec: Spec) -> bool:
    """Whether the files of `spec` would change what serves: then only `up` may write them."""
    if space.deployed() is None:
        return False
    journal = open_journal(space, spec)
    try:
        return bool(found(spec, journal, deployed(space, spec, journal, look=False)))
    finally:
        journal.close()


def as_running(session: Session) -> None:
    """Work on what runs rather than on what an edited migrate.yaml says: the way back is that of before."""
    session.spec = running_spec(session.space, session.spec, session.journal)
    gateway = gateway_of(session.space, session.spec)
    session.context = dataclasses.replace(session.context, spec=session.spec, gateway=gateway)


def carry_out(session: Session, plan: Plan, before: Deployed) -> None:
    """Run the steps of `up`; an edit of what serves is undone when a step of it fails."""
    live = any(step.kind == "lower" for step in plan.steps)
    try:
        session.run(plan)
    except Interrupted:
        _say_owed(session)
        raise
    except MigrateError as error:
        if live and before.spec and held(session.journal) and session.space.deployed() != session.spec:
            _undo(session, before.spec, error)
        if not live and isinstance(error, GateRefused | Inconclusive):
            session.space.keep_deployed(session.spec)      # it runs as the file says; only its proof is missing
        raise
    session.space.keep_deployed(session.spec)


def _undo(session: Session, old: Spec, error: MigrateError) -> None:
    """Bring back what ran before; raises `error` with how that went."""
    routes = ", ".join(held(session.journal))
    session.console.emit(Happening(Kind.PHASE, "undo", f"{error.message}; what ran before comes back"))
    context = dataclasses.replace(session.context, spec=old)
    plan = plans.plan_back(session.spec, old, session.journal.states(), held(session.journal))
    try:
        run_plan(plan, lambda step: build(step, context), session.journal, context.emit, session.stop, lambda _: None)
    except MigrateError as second:
        raise MigrateError(
            f"{error.message}; and what ran before did not come back: {second.message}. "
            f"Ollama answers every request of {routes}",
            evidence=error.evidence or second.evidence,
            hint="correct migrate.yaml, or put the old value back, then run migrate up: it goes on and gives the "
            "weight back; to stay on Ollama: migrate rollback",
            code=second.exit_code if isinstance(second, Interrupted) else error.exit_code,
        ) from error
    raise MigrateError(
        f"{error.message}. What ran before serves again: {routes} at the weight of before",
        evidence=error.evidence, hint=error.hint or "correct migrate.yaml, then run migrate up again",
        code=error.exit_code,
    ) from error


def _say_owed(session: Session) -> None:
    owed = held(session.journal)
    if owed:
        shown = ", ".join(f"{model} ({weight:g} %)" for model, weight in owed.items())
        text = f"Ollama answers for {shown} until migrate up has run to its end"
        session.context.emit(Happening(Kind.WARN, "edit", text))


def _gone(spec: Spec, facts: Facts | None) -> tuple[str, ...]:
    if facts is None or not facts.ollama.models:
        return ()
    there = {canonical(model.name) for model in facts.ollama.models}
    return tuple(model for model in spec.migrating() if canonical(model) not in there)
