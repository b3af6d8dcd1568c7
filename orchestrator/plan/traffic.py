"""Weights up and down, and the way out: cutover, rollback, down."""

from __future__ import annotations

from orchestrator.errors import UsageError, WrongState
from orchestrator.names import canonical
from orchestrator.plan.step import Plan, Step
from orchestrator.spec import Spec
from orchestrator.state import SHIFTABLE, RouteState, StackState, States


def chosen_routes(spec: Spec, models: tuple[str, ...]) -> tuple[str, ...]:
    """Return the routes named by `models` in any spelling, or all that migrate; raises UsageError for others."""
    migrating = spec.migrating()
    known = {canonical(name): model for model, route in migrating.items() for name in (*route.names, model)}
    for model in models:
        if canonical(model) not in known:
            shown = ", ".join(migrating) or "none"
            raise UsageError(f"{model} is not a route that migrates (those are: {shown})", hint="see: migrate status")
    return tuple(dict.fromkeys(known[canonical(model)] for model in models)) or tuple(migrating)


def plan_cutover(
    spec: Spec, states: States, approved: dict[str, float], models: tuple[str, ...], to: float
) -> Plan:
    """Weight steps above what was approved, up to `to`; raises WrongState for routes that are not proven."""
    if not 0 < to <= 100 or round(to, 1) != to:
        raise UsageError(f"{to:g} is not a weight", hint="weights go from 0.1 to 100 in steps of 0.1")
    routes = chosen_routes(spec, models)
    for model in routes:
        if states.routes[model] not in SHIFTABLE:
            raise WrongState(
                f"{model} is {states.routes[model]}: it may carry traffic only once it is proven",
                hint="run: migrate up",
            )
    if to < 100 and all(spec.routes[model].kind == "embedding" for model in routes):
        hint = "vectors of two engines do not mix: --to 100"
        raise UsageError("an embedding model moves in one step", hint=hint)
    low = min((approved.get(model, 0.0) for model in routes), default=to)
    targets = [weight for weight in spec.cutover.steps if low < weight <= to]
    if to not in targets and to > low:
        targets.append(to)
    steps = tuple(_shift(spec, routes, weight, approved) for weight in targets)
    return Plan("cutover", spec.name, steps)


def _shift(spec: Spec, routes: tuple[str, ...], weight: float, approved: dict[str, float]) -> Step:
    whole = [model for model in routes if spec.routes[model].kind == "embedding"]
    able = [model for model in routes if weight >= 100 or model not in whole]
    moving = [model for model in able if approved.get(model, 0.0) < weight]
    note = f"{', '.join(whole)}: in one step, and an index of its vectors may need to be made anew"
    return Step(
        "shift", f"{weight:g} %", f"{', '.join(moving)}: judged over at least {spec.cutover.bake:g} s",
        touches_live=True, note=note if whole and weight >= 100 else "", data={"routes": able, "weight": weight},
    )


def plan_rollback(spec: Spec, states: States, models: tuple[str, ...], *, stop: bool, restore: bool) -> Plan:
    """All new traffic to Ollama; then, if asked, stop the engines and give the original its port back."""
    routes = chosen_routes(spec, models)
    if restore and len(routes) < len(spec.migrating()):
        raise UsageError("--restore gives the whole port back", hint="leave out the models, or leave out --restore")
    steps = []
    if routes and states.stack is StackState.TAKEN_OVER:
        why = "all new requests to Ollama, at once"
        data = {"routes": list(routes), "leaving": restore}
        steps.append(Step("unshift", ", ".join(routes), why, data=data))
    if stop or restore:
        engines = dict.fromkeys(spec.routes[model].engine or "" for model in routes)
        _unused(spec, states, engines, routes)
        steps += [Step("stop-engine", name, "after its running answers have ended") for name in engines]
    if restore and spec.ollama.container and states.stack is StackState.TAKEN_OVER:
        steps.append(
            Step(
                "restore", f"{spec.gateway.listen}:{spec.gateway.port}",
                f"{spec.ollama.container} gets its port back, exactly as it was", touches_live=True,
            )
        )
    return Plan("rollback", spec.name, tuple(steps))


def _unused(spec: Spec, states: States, engines: dict[str, None], routes: tuple[str, ...]) -> None:
    """Raise WrongState if an engine also serves a route that keeps its traffic."""
    for model, route in spec.migrating().items():
        live = states.routes[model] in (RouteState.SHIFTING, RouteState.CUT_OVER)
        if live and model not in routes and (route.engine or "") in engines:
            raise WrongState(
                f"the engine {route.engine} also serves {model}, which has traffic on it",
                hint=f"name {model} too, or leave out --stop",
            )


def plan_down(spec: Spec, states: States, *, volumes: bool) -> Plan:
    """Give the port back, then remove what the stack made; volumes stay unless asked."""
    steps = list(plan_rollback(spec, states, (), stop=True, restore=True).steps)
    kept = "with weights and caches" if volumes else "weights and caches are kept"
    steps.append(Step("remove-stack", spec.name, kept, data={"volumes": volumes}))
    return Plan("down", spec.name, tuple(steps))


def next_command(spec: Spec, states: States, *, owed: bool = False) -> str:
    """Return what an operator would run next; `owed`: an edit has not yet given back the weight it took away."""
    if owed:
        return "migrate up (it goes on with the edit; to stay on Ollama: migrate rollback)"
    moving = [states.routes[model] for model in spec.migrating()]
    if not moving:
        return "migrate plan"
    if all(state is RouteState.CUT_OVER for state in moving):
        return "migrate status (undo: migrate rollback)"
    if all(state in SHIFTABLE for state in moving):
        return "migrate cutover"
    return "migrate up"
