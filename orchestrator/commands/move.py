"""The commands that change something: up, cutover, rollback, down."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator import plan as plans
from orchestrator import savedplan
from orchestrator.commands import adapters, edit
from orchestrator.commands.readiness import require_ready
from orchestrator.commands.session import Session, know
from orchestrator.commands.skips import chosen_skips
from orchestrator.console import Console
from orchestrator.decide import flagcheck
from orchestrator.errors import UsageError, WrongState
from orchestrator.events import Happening, Kind
from orchestrator.flags import Common
from orchestrator.observe import world
from orchestrator.plan import Plan
from orchestrator.plan.edits import Deployed, evidence_digest
from orchestrator.savedplan import SavedPlan
from orchestrator.state import EngineState, StackState
from orchestrator.steps.edit import gates_of
from orchestrator.steps.lease import Lease, held, standing
from orchestrator.steps.paritygate import require_suites
from orchestrator.steps.takeover import preflight, settle


def up(
    console: Console, common: Common, *, yes: bool, dry_run: bool, plan_file: str | None = None,
    skip_doctor: bool = False, skip: tuple[str, ...] = (), reason: str | None = None,
) -> int:
    """Deploy, health, parity, load; with `plan_file` exactly that plan, or WrongState with what moved."""
    skips = chosen_skips(skip, reason)
    saved = savedplan.load(Path(plan_file)) if plan_file else None
    session = Session(console, common, yes=yes)
    session.context = replace(session.context, skips=skips)
    if saved:
        _as_planned(session, saved)
    flagcheck.require(session.spec, str(session.space.spec_path))
    adapters.require(session)
    require_suites(session.context)
    plan, _ = _plan_up(session)
    if dry_run:
        return _show(console, plan)
    _container(session)
    _token(session)
    session.require_docker()
    with session.running("up"):
        if saved:
            _as_planned(session, saved)     # asked again under the lock: another run may have ended meanwhile
        session.need_yes(plan)
        settle(session.context)
        require_ready(session, skip=skip_doctor)
        preflight(session.context)
        plan, before = _plan_up(session)
        _phase(console, "up", f"{session.spec.name}: deploy, healthcheck, smoke parity, load test")
        edit.carry_out(session, plan, before)
    know(session.journal, session.spec)     # without what the edit has removed
    return _done(console, session, "every route is proven" if session.spec.migrating() else "the stack is up")


def _plan_up(session: Session) -> tuple[Plan, Deployed]:
    before = edit.deployed(session.space, session.spec, session.journal)
    return edit.plan_up(session.console, session.space, session.spec, session.journal, before), before


def cutover(
    console: Console, common: Common, *, models: tuple[str, ...], to: float, yes: bool, dry_run: bool
) -> int:
    """Shift traffic step by step."""
    session = Session(console, common, yes=yes)
    plan = plans.plan_cutover(session.spec, session.journal.states(), standing(session.context), models, to)
    if dry_run:
        return _show(console, plan)
    with session.running("cutover"):
        weights = standing(session.context)
        plan = plans.plan_cutover(session.spec, session.journal.states(), weights, models, to)
        routes = plans.chosen_routes(session.spec, models)
        _proven_now(session, routes)
        shown = ", ".join(routes)
        _phase(console, "cutover", f"{shown} to {to:g} %")
        if plan.steps:
            session.need_yes(plan)
            with Lease(session.context):
                session.run(plan)
    weights = standing(session.context)
    shown = ", ".join(f"{model} {weights[model]:g} %" for model in plans.chosen_routes(session.spec, models))
    return _done(console, session, f"on vLLM: {shown}", undo="migrate rollback")


def rollback(
    console: Console, common: Common, *, models: tuple[str, ...], stop: bool, restore: bool, yes: bool, dry_run: bool
) -> int:
    """Put the traffic back; lowering a weight needs no lock, so it works while a cutover runs."""
    session = Session(console, common, yes=yes)
    edit.as_running(session)
    states = session.journal.states()
    plan = plans.plan_rollback(session.spec, states, models, stop=stop, restore=restore)
    if dry_run:
        return _show(console, plan)
    if restore and states.stack is not StackState.TAKEN_OVER:
        with session.running("rollback", wait_s=60):
            settle(session.context, leaving=True)
        states = session.journal.states()
        plan = plans.plan_rollback(session.spec, states, models, stop=stop, restore=restore)
    if states.stack is not StackState.TAKEN_OVER:
        return _done(console, session, "nothing to roll back: the gateway does not have the port")
    session.need_yes(plan)
    at_once = Plan("rollback", plan.stack, tuple(step for step in plan.steps if step.kind == "unshift"))
    later = Plan("rollback", plan.stack, tuple(step for step in plan.steps if step.kind != "unshift"))
    with session.running("rollback", exclusive=False):
        session.run(at_once)
    if later.steps:
        with session.running("rollback", wait_s=60):
            session.run(later)
    return _done(console, session, "all new requests go to Ollama" if not restore else "restored")


def down(
    console: Console, common: Common, *, volumes: bool, confirm: str | None, yes: bool, dry_run: bool
) -> int:
    """Give the port back, then remove the stack."""
    session = Session(console, common, yes=yes)
    edit.as_running(session)
    if volumes and confirm != session.spec.name:
        raise UsageError(
            "--volumes removes weights and caches for good", hint=f"confirm it: --confirm {session.spec.name}"
        )
    plan = plans.plan_down(session.spec, session.journal.states(), volumes=volumes)
    if dry_run:
        return _show(console, plan)
    session.require_docker()
    with session.running("down", wait_s=60):
        settle(session.context, leaving=True)
        session.run(plans.plan_down(session.spec, session.journal.states(), volumes=volumes))
    return _done(console, session, "the stack is removed", follow=False)


def _as_planned(session: Session, saved: SavedPlan) -> None:
    """Refuse where the world is not the one that was planned for."""
    facts = world.look(session.spec.ollama.url, session.context.docker)
    facts = adapters.seen(facts, session.space.spec(), {}, session.space.dir)
    engines = session.journal.states().engines.values()
    idle = all(state in (EngineState.ABSENT, EngineState.STOPPED) for state in engines)
    found = savedplan.moved(saved, facts, session.space.spec(), count_free=idle)
    if found:
        raise WrongState(
            f"the world is not as the plan of {saved.made_at} saw it", evidence="\n".join(found),
            hint="run migrate plan again",
        )


def _container(session: Session) -> None:
    if session.spec.ollama.container is None:
        raise UsageError(
            "Ollama is not a container of this Docker Engine: its port cannot be taken over",
            hint="run Ollama as a container and name it in migrate.yaml (ollama/container), then run migrate plan",
        )


def _proven_now(session: Session, routes: tuple[str, ...]) -> None:
    """Evidence expires with what it was gathered on: the spec's engines, routes and images."""
    for model in routes:
        for kind in gates_of(session.spec, model):
            last = session.journal.last("verdict", f"{kind} {model}")
            if last is None or last.data.get("spec") != evidence_digest(session.spec, kind, model):
                raise WrongState(
                    f"the evidence of {kind} for {model} is older than migrate.yaml", hint="run: migrate up"
                )


def _token(session: Session) -> None:
    """A gated repository is asked for its token before anything runs."""
    gated = [engine.repo for engine in session.spec.engines.values() if engine.gated]
    path = session.space.dir / ".env"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    if gated and not os.environ.get("HF_TOKEN") and not any(re.match(r"\s*HF_TOKEN\s*=\s*\S", line) for line in lines):
        raise UsageError(
            f"{', '.join(gated)} is gated: it needs an access token",
            hint=f"accept its licence on the Hub, put HF_TOKEN=... into {path}, then run migrate up again",
        )


def _phase(console: Console, name: str, text: str) -> None:
    console.emit(Happening(Kind.PHASE, name, text))


def _show(console: Console, plan: Plan) -> int:
    console.answer(str(plan), plan.as_dict())
    return 0


def _done(console: Console, session: Session, text: str, *, undo: str = "", follow: bool = True) -> int:
    states = session.journal.states()
    after = plans.next_command(session.spec, states, owed=bool(held(session.journal))) if follow else ""
    lines = [f"✓ {text}"]
    if after or undo:
        parts = [f"next: {after}" if after else "", f"undo: {undo}" if undo and "undo" not in after else ""]
        lines.append("  " + " · ".join(part for part in parts if part))
    answer: dict[str, Any] = {
        "result": "done", "text": text, "next": after, "stack": session.spec.name,
        "routes": {model: str(state) for model, state in states.routes.items()},
    }
    console.answer("\n".join(lines), answer)
    return 0
