"""The commands that only look: status and logs."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from orchestrator import plan as plans
from orchestrator import render
from orchestrator.clients.docker import Docker
from orchestrator.clients.gateway import GatewayStatus
from orchestrator.commands import edit
from orchestrator.commands.session import clock, compose_of, gateway_of, open_journal, workspace
from orchestrator.console import Console
from orchestrator.errors import ExitCode, MigrateError, UsageError
from orchestrator.events import Happening, Kind
from orchestrator.flags import Common
from orchestrator.journal import Entry
from orchestrator.names import canonical
from orchestrator.spec import Spec
from orchestrator.state import EngineState, RouteState, StackState, States
from orchestrator.steps.lease import held
from orchestrator.workspace import Workspace

_GUARD_KEPT, _GUARD_SHOWN = 20, 3   # of its events, in --json and on the screen

# The words of the four commands, for the state a route is in.
PHASES = {
    RouteState.STAYS: "stays on Ollama",
    RouteState.PLANNED: "planned",
    RouteState.DEPLOYED: "deployed; next: healthcheck",
    RouteState.HEALTHY: "healthcheck passed; next: smoke parity",
    RouteState.MATCHED: "smoke parity passed; next: load test",
    RouteState.PROVEN: "load test passed; ready for cutover",
    RouteState.SHIFTING: "cutover",
    RouteState.CUT_OVER: "cut over",
    RouteState.ROLLED_BACK: "rolled back",
    RouteState.RETIRED: "retired",
}


def status(console: Console, common: Common, *, exit_code: bool) -> int:
    """Phase, since when, weights, health, next command; needs no lock."""
    space = workspace(common)
    spec = space.spec()
    journal = open_journal(space, spec, create=False)
    whole = edit.running_spec(space, spec, journal)     # a route that an edit took out serves until `up`
    states = journal.states()
    gateway, problem = _gateway(space, whole)
    owed = held(journal)
    health = _health(spec, states)
    routes = [_route(model, whole, states, gateway, health) for model in whole.routes]
    unhealthy = [name for name, word in health.items() if word not in ("healthy", "running", "absent", "stopped")]
    data: dict[str, Any] = {
        "stack": spec.name,
        "state": str(states.stack),
        "since": states.since.get("stack/" + spec.name),
        "address": f"{spec.gateway.listen}:{spec.gateway.port}",
        "running": journal.holder(),
        "gateway": {"reachable": gateway is not None, "problem": problem,
                    "version": gateway.version if gateway else None,
                    "lease": gateway.lease.model_dump() if gateway and gateway.lease else None},
        "health": health,
        "replicas": {name: {one: each.model_dump() for one, each in copies.items()}
                     for name, copies in (gateway.replicas if gateway else {}).items()},
        "circuits": {name: one.model_dump() for name, one in (gateway.circuits if gateway else {}).items()},
        "routes": routes,
        "keys": gateway.keys.model_dump() if gateway and gateway.keys else None,
        "next": plans.next_command(spec, states, owed=bool(owed)),
        "last_verdict": _last_verdict(journal.entries("verdict")),
        "guard": _guard(journal.entries("guard")),
    }
    console.answer(_text(data, states), data)
    taken_over = states.stack is StackState.TAKEN_OVER
    return ExitCode.GATE if exit_code and (unhealthy or (taken_over and gateway is None)) else ExitCode.DONE


def logs(console: Console, common: Common, *, services: tuple[str, ...], follow: bool, tail: int) -> int:
    """Print the log lines of the stack's containers."""
    space = workspace(common)
    spec = space.spec()
    docker = Docker()
    docker.require()
    compose = compose_of(space, spec, docker)
    known = sorted(compose.services())
    unknown = [name for name in services if name not in known]
    if unknown:
        raise UsageError(f"the stack has no service {', '.join(unknown)}", hint=f"it has: {', '.join(known)}")
    said = False
    for line in compose.logs(services, tail=tail, follow=follow):
        console.out.print(line, markup=False, highlight=False)
        said = True
    if not said:
        console.emit(Happening(Kind.NOTE, "logs", "nothing was logged: a container that has no complaint is silent"))
    return ExitCode.DONE


def _gateway(space: Workspace, spec: Spec) -> tuple[GatewayStatus | None, str]:
    try:
        return gateway_of(space, spec).status(), ""
    except MigrateError as error:
        return None, error.message


def _health(spec: Spec, states: States) -> dict[str, str]:
    """Return a word per service: an engine that was stopped on purpose is stopped, not unhealthy."""
    stopped = {
        service for name, state in states.engines.items() if state is EngineState.STOPPED and name in spec.engines
        for service in render.engine_services(spec, name)
    }  # fmt: skip
    found: dict[str, str] = {}
    with suppress(MigrateError):
        for container in Docker().containers(project=f"migrate-{spec.name}"):
            word = (container.health if container.running else "") or container.status
            found[container.service] = "stopped" if container.service in stopped and not container.running else word
    return dict(sorted(found.items()))


def _route(
    model: str, spec: Spec, states: States, gateway: GatewayStatus | None, health: dict[str, str]
) -> dict[str, Any]:
    state, engine = states.routes[model], spec.routes[model].engine
    live = gateway.live.by_route.get(model, {}) if gateway else {}
    return {
        "model": model,
        "state": str(state),
        "phase": PHASES[state],
        "since": states.since.get(f"route/{model}"),
        "weight": gateway.weights.get(model, 0.0) if gateway and engine else None,
        "engine": engine,
        "engine_state": str(states.engines[engine]) if engine else None,
        "health": _engine_health(spec, engine, health) if engine else health.get("ollama", "absent"),
        "live": dict(live),
        "touched": _touched(model, states, gateway),
    }


def _touched(model: str, states: States, gateway: GatewayStatus | None) -> dict[str, Any] | None:
    """Return what was done to Ollama's copy since the route came to where it is."""
    found = gateway.touched.get(canonical(model)) if gateway else None
    since = states.since.get(f"route/{model}")
    if found is None or (since and found.at < since):
        return None
    return found.model_dump()


def _engine_health(spec: Spec, engine: str, health: dict[str, str]) -> str:
    """Return the word of an engine; of several replicas, how many are how."""
    words = [health.get(service, "absent") for service in render.engine_services(spec, engine)]
    count = {word: words.count(word) for word in words}
    return words[0] if len(words) == 1 else ", ".join(f"{n} of {len(words)} {word}" for word, n in count.items())


def _passed_over(replicas: dict[str, dict[str, Any]]) -> list[str]:
    """Say which replicas of an engine the gateway passes over now."""
    lines = []
    for name, one in replicas.items():
        why = ""
        if one["out"] > 0:
            cause = "the guard got no answer" if one["by"] == "guard" else "it cannot be reached"
            why = f"no requests: {cause}"
        elif one["failing"]:
            why = "requests last: it answers with errors"
        if why:
            lines.append(f"! replica {name} gets {why}; see: migrate logs vllm-{name}")
    return lines


def _open(data: dict[str, Any]) -> list[str]:
    """Say which engines without replicas get no requests now."""
    alone = data["circuits"].keys() - {one for copies in data["replicas"].values() for one in copies}
    return [
        f"! engine {name} gets no requests until it gives a token again: the guard heard no sign of life; "
        f"see: migrate logs vllm-{name}"
        for name in sorted(alone) if data["circuits"][name]["by"] == "guard"
    ]


def _last_verdict(entries: list[Any]) -> dict[str, Any] | None:
    if not entries:
        return None
    last = entries[-1]
    return {"subject": last.subject, "result": last.text, "at": last.at}


def _guard(entries: list[Entry]) -> list[dict[str, Any]]:
    """Return what the guard did lately, oldest first; its file is read when a command opens the journal."""
    newest = sorted(entries, key=lambda one: (one.at, one.id))[-_GUARD_KEPT:]
    return [
        {"at": one.at, "event": str(one.data.get("event")), "subject": one.subject, "text": one.text,
         "grave": bool(one.data.get("grave"))} for one in newest
    ]  # fmt: skip


def _guarded(events: list[dict[str, Any]]) -> list[str]:
    """Say what the guard did last; that it has started is only worth a word to programs."""
    shown = [one for one in events if one["event"] != "start"][-_GUARD_SHOWN:]
    return [f"{'!' if one['grave'] else ' '} guard, {clock(one['at'])}: {one['text']}" for one in shown]


def _keyless(keys: dict[str, Any] | None) -> list[str]:
    """Say who calls without a key."""
    if not keys or not keys["callers"]:
        return []
    most = sorted(keys["callers"].items(), key=lambda one: -one[1])
    named = ", ".join(f"{address} ({count})" for address, count in most[:5])
    more = f" and {len(most) - 5} more" if len(most) > 5 else ""
    count = sum(keys["callers"].values())
    return [f"! {count} requests without a key since the gateway's start: {named}{more}; see: migrate keys list"]


def _text(data: dict[str, Any], states: States) -> str:
    lines = [f"stack {data['stack']}: {data['state']}, address {data['address']}"]
    if states.stack is StackState.TAKEN_OVER and not data["gateway"]["reachable"]:
        lines.append(f"! the gateway's control door does not answer: {data['gateway']['problem']}")
    if data["running"]:
        lines.append(f"running now: {data['running']}")
    lease = data["gateway"]["lease"]
    if lease:
        lines.append(f"watched by {lease.get('owner')}; the guard steps back if it falls silent")
    width = max((len(route["model"]) for route in data["routes"]), default=0)
    for route in data["routes"]:
        weight = "" if route["weight"] is None else f"  {route['weight']:g} % on vLLM"
        since = f" since {clock(route['since'])}" if route["since"] else ""
        engine = f"  engine {route['engine']} {route['health']}" if route["engine"] else ""
        lines.append(f"  {route['model']:<{width}}  {route['phase']}{since}{weight}{engine}")
        if touched := route["touched"]:
            lines.append(f"! {route['model']}: {touched['by']} at {clock(touched['at'])} changed Ollama's copy only; "
                         "vLLM serves what was proven before")  # fmt: skip
    for copies in data["replicas"].values():
        lines += _passed_over(copies)
    lines += _open(data)
    lines += _guarded(data["guard"])
    lines += _keyless(data["keys"])
    if data["last_verdict"]:
        verdict = data["last_verdict"]
        lines.append(f"last verdict: {verdict['subject']}: {verdict['result']} ({clock(verdict['at'])})")
    lines.append(f"next: {data['next']}")
    return "\n".join(lines)
