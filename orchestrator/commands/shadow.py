"""`migrate shadow`: a share of what Ollama answers is asked of vLLM as well; what came of it, and on or off."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from orchestrator.clients.docker import Docker
from orchestrator.clients.gateway import GatewayStatus
from orchestrator.commands.session import Session, gateway_of, workspace
from orchestrator.commands.shadow_records import Kept, kept, summary
from orchestrator.commands.shadow_text import lines, stored
from orchestrator.console import Console
from orchestrator.decide.specedit import set_value
from orchestrator.errors import ExitCode, MigrateError, UsageError, WrongState
from orchestrator.events import Happening, Kind
from orchestrator.flags import Common
from orchestrator.names import canonical
from orchestrator.plan import Plan, Step
from orchestrator.plan.edits import changes
from orchestrator.render import replace_file
from orchestrator.spec import Spec, parse_spec
from orchestrator.state import StackState


def shadow(
    console: Console, common: Common, *, model: str | None, percent: float | None, keep: int | None, off: bool,
    show: bool, limit: int, dry_run: bool,
) -> int:
    """Switch it, or say what was compared: numbers alone unless `show` asks for prompts and answers."""
    switches = off or percent is not None or keep is not None
    if off and (percent is not None or keep is not None):
        raise UsageError("--off and --percent say different things", hint="give one of them")
    if switches and show:
        raise UsageError("--show only looks", hint="run it again without --percent, --keep and --off")
    if dry_run and not switches:
        raise UsageError("--dry-run is for --percent and --off", hint="without them nothing is changed anyway")
    if switches:
        return _switch(console, common, model, percent, keep, dry_run=dry_run)
    return _look(console, common, model, limit if show else 0)


def chosen(spec: Spec, model: str | None) -> list[str]:
    """Return the routes that are meant; raises UsageError for one that cannot have a shadow."""
    able = [name for name, route in spec.migrating().items() if route.kind == "generate"]
    if model is None:
        if not able:
            raise UsageError("no route here can have a shadow: it needs a model that generates, with an engine",
                             hint="migrate plan says which models migrate")  # fmt: skip
        return able
    named = [name for name in able if canonical(model) in map(canonical, (name, *spec.routes[name].names))]
    if not named:
        known = ", ".join(able) or "none"
        raise UsageError(f"{model} is no route that can have a shadow: it needs a model that generates, with an engine",
                         hint=f"those that can: {known}")  # fmt: skip
    return named


def rewritten(text: str, spec: Spec, routes: list[str], percent: float | None, keep: int | None, where: str) -> str:
    """Return migrate.yaml with the shadow of these routes switched; a percentage of None switches it off."""
    for name in routes:
        now = spec.routes[name].shadow
        share = now.percent if percent is None and keep is not None and now else percent
        if keep is not None and share is None:
            raise UsageError(f"{name} has no shadow whose number of comparisons could change",
                             hint="name the share, too: --percent 2")  # fmt: skip
        many = keep if keep is not None else now.keep if now else None
        value = "null" if share is None else f"{{percent: {share:g}{f', keep: {many}' if many else ''}}}"
        if share is not None or now:
            text = set_value(text, ("routes", name, "shadow"), value, where)
    return text


def _switch(
    console: Console, common: Common, model: str | None, percent: float | None, keep: int | None, *,
    dry_run: bool,
) -> int:
    session = Session(console, common, yes=True)    # nothing of it touches a client's answer
    routes = chosen(session.spec, model)
    path = session.space.spec_path.resolve()
    before = path.read_text(encoding="utf-8")
    after = rewritten(before, session.spec, routes, percent, keep, str(session.space.spec_path))
    new = parse_spec(after, str(session.space.spec_path))
    plan = _plan(session, new)
    if dry_run:
        console.answer(str(plan), plan.as_dict())
        return ExitCode.DONE
    with session.running("shadow"):
        if path.read_text(encoding="utf-8") != before:
            raise WrongState(f"{session.space.spec_path} has just been changed by somebody else", hint="run it again")
        replace_file(path, after, path.stat().st_mode & 0o777)
        _follow(session, new, plan)
    shares = {name: asked.percent if (asked := new.routes[name].shadow) else None for name in routes}
    text = "\n".join(f"✓ {name}: {_share(share)}" for name, share in shares.items())
    if not plan.steps:
        text += "\n  written into migrate.yaml; in effect with: migrate up"
    elif any(share is not None for share in shares.values()):
        text += "\n  prompts and answers of the samples are stored; look: migrate shadow · undo: migrate shadow --off"
    console.answer(text, {"stack": new.name, "routes": shares, "in_effect": bool(plan.steps)})
    return ExitCode.DONE


def _share(share: float | None) -> str:
    return "no shadow from now on; what was compared stays until migrate down --volumes" if share is None \
        else f"vLLM is asked {share:g} % of what Ollama answers as well"  # fmt: skip


def _plan(session: Session, new: Spec) -> Plan:
    """Return what is to be done beside writing migrate.yaml: nothing until the gateway has the port.

    Raises WrongState where the file has other edits: those are for `up` to carry out.
    """
    states = session.journal.states()
    deployed = session.space.deployed()
    if states.stack is not StackState.TAKEN_OVER or deployed is None:
        return Plan("shadow", new.name, ())
    other = changes(_without(deployed), _without(new), states)
    if other:
        raise WrongState("migrate.yaml has other changes that do not run yet", evidence="\n".join(map(str, other)),
                         hint="first: migrate up")  # fmt: skip
    steps = [Step("write-files", "stack", "the stack follows migrate.yaml")]
    if any(route.shadow for route in new.routes.values()):
        steps.append(Step("start-service", "shadow", "asks vLLM what Ollama was asked, and keeps both answers"))
    steps.append(Step("reload-services", "gateway, adapter", "they follow their files, nothing is cut"))
    return Plan("shadow", new.name, tuple(steps))


def _without(spec: Spec) -> Spec:
    routes = {name: route.model_copy(update={"shadow": None}) for name, route in spec.routes.items()}
    return spec.model_copy(update={"routes": routes})


def _follow(session: Session, new: Spec, plan: Plan) -> None:
    """Let what runs follow the new file; run again, it goes on where it stopped."""
    if not plan.steps:
        return
    session.require_docker()
    session.follow(new)
    session.run(plan)
    session.space.keep_deployed(new)


def _look(console: Console, common: Common, model: str | None, texts: int) -> int:
    space = workspace(common)
    spec = space.spec()
    routes = chosen(spec, model)
    status: GatewayStatus | None = None
    with suppress(MigrateError), gateway_of(space, spec) as gateway:
        status = gateway.status()
    found, problem = {name: Kept() for name in routes}, ""
    docker = Docker()
    try:
        docker.require()
        for name in routes:
            found[name] = kept(docker, spec, name, texts)
    except MigrateError as error:
        problem = error.message
        console.emit(Happening(Kind.WARN, "shadow", f"what was compared cannot be read: {problem}"))
    shown = [_route(name, spec, status, found[name]) for name in routes]
    volume = f"volume migrate-{spec.name}_shadow"
    data = {"stack": spec.name, "routes": shown, "stored": volume, "problem": problem}
    console.answer("\n".join([*(line for one in shown for line in lines(one)), stored(volume)]), data)
    return ExitCode.DONE


def _route(name: str, spec: Spec, status: GatewayStatus | None, found: Kept) -> dict[str, Any]:
    asked = spec.routes[name].shadow
    here = status.shadow.get(canonical(name)) if status else None
    return {
        "model": name,
        "percent": asked.percent if asked else None,
        "keep": asked.keep if asked else None,
        "in_effect": here.percent if here else None,
        "weight": status.weights.get(name, status.weights.get(canonical(name))) if status else None,
        "samples": here.model_dump(exclude={"percent"}) if here else None,
        "running": found.running,
        "compared": summary(found.records),
        "records": found.worded,
    }
