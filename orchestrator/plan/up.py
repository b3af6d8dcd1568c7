"""From here to proven routes; after an edit, by way of Ollama where an engine with traffic is made anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.errors import WrongState
from orchestrator.plan.edits import WAY, Change, Deployed, changes
from orchestrator.plan.step import Plan, Step
from orchestrator.spec import Spec
from orchestrator.state import SHIFTABLE, EngineState, StackState, States


@dataclass(frozen=True, slots=True)
class _Edit:
    """What an edit asks for: containers to make anew, routes that step aside, weights to come back to (percent)."""

    found: tuple[Change, ...]
    causes: dict[str, str]          # service -> which keys
    aside: dict[str, float]
    back: dict[str, float]
    drain_s: float = 0.0

    def again(self, gate: str) -> bool:
        return any(gate in change.gates_rerun for change in self.found)


def plan_up(spec: Spec, states: States, deployed: Deployed | None = None) -> Plan:
    """Steps from here to proven routes: deploy, health, parity, load.

    `deployed` tells an edit of what runs from a first deployment. Raises WrongState where the edit cannot be made
    while clients are served.
    """
    known = deployed or Deployed()
    edit = _edit(spec, states, known)
    return Plan("up", spec.name, tuple(_up(spec, states, known, edit)))


def plan_back(spec: Spec, old: Spec, states: States, held: dict[str, float]) -> Plan:
    """Undo an edit that failed: the containers of before come back, and with them their weights."""
    edited = {change.service.removeprefix("vllm-") for change in changes(spec, old, states, held)}
    steps = [Step("write-files", "stack", "as they were before the edit")]
    steps.append(Step("start-service", "adapter", "as it was before the edit"))
    steps.append(Step("reload-services", "gateway, adapter", "they follow their files, nothing is cut"))
    steps.append(Step("start-service", "guard", "as it was before the edit"))
    steps.append(Step("remove-unused", "engines", "the stack of before does not have them"))
    back = [name for name in old.engines if name in edited]
    steps += [Step("recreate-engine", name, f"vllm-{name} as it was before the edit") for name in back]
    routes = [model for model in old.migrating() if held.get(model)]
    asked = dict.fromkeys([*back, *(old.routes[model].engine or "" for model in routes)])
    steps += [Step("check-health", name, "right model, and one token comes back") for name in asked]
    steps += [Step("reuse-evidence", model, "its gates passed on this very engine") for model in routes]
    if routes:
        steps.append(_raise({model: held[model] for model in routes}, asks=False))
    return Plan("undo", spec.name, tuple(steps))


def images(spec: Spec) -> dict[str, list[str]]:
    """Return every image of the stack and who needs it, in the order in which they are needed."""
    users: dict[str, list[str]] = {}
    if spec.ollama.container:
        users.setdefault(spec.ollama.image, []).append("ollama")
    users.setdefault(spec.images.sidecar, []).append("adapter, guard, preload")
    users.setdefault(spec.images.gateway, []).append("gateway")
    for name, engine in spec.engines.items():
        users.setdefault(engine.image or spec.images.vllm, []).append(f"vllm-{name}")
    return users


def _edit(spec: Spec, states: States, known: Deployed) -> _Edit:
    found = tuple(changes(known.spec, spec, states, known.held)) if known.spec else ()
    _refuse([change for change in found if change.how == "refused"])
    moving = dict.fromkeys(model for one in found if one.how == "weight 0 first" for model in one.routes)
    aside = {model: max(known.weights.get(model, 0.0), known.held.get(model, 0.0)) for model in moving}
    gone = [model for model, weight in aside.items() if model in known.gone and weight > 0]
    if gone:
        shown = ", ".join(gone)
        raise WrongState(
            f"{shown} cannot go to Ollama meanwhile: Ollama does not have the model any more",
            hint=f"get it back (ollama pull {gone[0]}), or put the old value back into migrate.yaml",
        )
    owed = {**{model: weight for model, weight in known.held.items() if weight > 0}, **aside}
    back = {model: owed[model] for model in spec.migrating() if owed.get(model, 0.0) > 0}
    old = known.spec or spec
    engines = {route.engine for model, route in (*old.migrating().items(), *spec.migrating().items()) if model in aside}
    waits = [one.engines[name].drain for one in (old, spec) for name in engines if name in one.engines]
    return _Edit(found, {one.service: one.cause for one in found}, aside, back, max(waits, default=0.0))


def _refuse(found: list[Change]) -> None:
    if found:
        raise WrongState(
            "; ".join(f"{one.service}: {one.cause}" for one in found)
            + ": this cannot change while the stack serves the port of Ollama",
            hint=WAY,
        )


def _up(spec: Spec, states: States, known: Deployed, edit: _Edit) -> Iterator[Step]:
    if edit.aside:
        # What takes long and cuts nothing comes first: Ollama serves alone as short as possible.
        yield from _images(spec)
        yield from _aside(spec, edit)
    yield Step("write-files", "stack", "the stack follows migrate.yaml")
    if not edit.aside:
        yield from _images(spec)
    if spec.ollama.container:
        yield Step("start-ollama", "ollama", "same image and models as the original, beside it")
    yield Step("start-service", "adapter", _why(edit, "adapter") or "speaks Ollama's dialect on top of vLLM")
    yield from _gateway(spec, states)
    yield Step("start-service", "guard", "lowers the weight of a hung or dead engine")
    if spec.ollama.pinned:
        yield Step("start-service", "preload", f"keeps {', '.join(spec.ollama.pinned)} loaded in Ollama")
    yield Step("remove-unused", "engines", _removed(spec, known) or "migrate.yaml does not name them any more")
    for name in spec.engines:
        yield _engine(spec, states, known, edit, name)
    yield from _gates(spec, states, edit)
    if edit.aside:
        yield Step("keep-spec", "stack", "the edit is done: from here the way back is another edit")
    if edit.back:
        yield _raise(edit.back, asks=True)


def _images(spec: Spec) -> Iterator[Step]:
    for image, users in images(spec).items():
        yield Step("fetch-image", image, f"needed by {', '.join(users)}")


def _aside(spec: Spec, edit: _Edit) -> Iterator[Step]:
    routes, services = list(edit.aside), [one.service for one in edit.found if one.how == "weight 0 first"]
    containers = [one for one in services if not one.startswith("route ")] or services
    cause = f"{_percent(edit.aside)} -> 0 %: Ollama answers while {', '.join(containers)} is made anew"
    vectors = [model for model in routes if model in spec.routes and spec.routes[model].kind == "embedding"]
    note = f"meanwhile the vectors of {', '.join(vectors)} are Ollama's" if vectors else ""
    yield Step("lower", ", ".join(routes), cause, touches_live=True, note=note, data={"routes": routes})
    busy = spec.takeover.when_busy
    then = "then cuts what is left" if busy == "cut" else "then gives up"
    yield Step(
        "drain", ", ".join(containers), f"waits up to {edit.drain_s:.0f} s for running answers, {then}",
        data={"routes": routes, "seconds": edit.drain_s, "when_busy": busy},
    )


def _engine(spec: Spec, states: States, known: Deployed, edit: _Edit, name: str) -> Step:
    state, repo = states.engines.get(name, EngineState.ABSENT), spec.engines[name].repo
    cause = _why(edit, f"vllm-{name}")
    if known.spec and name in known.spec.engines:
        if cause and not cause.endswith("(it keeps running)"):
            return Step("recreate-engine", name, f"vllm-{name} is made anew: {cause}", note="one at a time")
        if state is EngineState.READY:
            return Step("start-engine", name, "no edit touches it: it keeps running, with its weight")
    return Step("start-engine", name, f"{repo} is {state}", note="one at a time, after Ollama")


def _gates(spec: Spec, states: States, edit: _Edit) -> Iterator[Step]:
    steps = list(_every_gate(spec))
    # Without an edit all are named: the evidence may have expired for another reason.
    yield from steps if not edit.found else [step for step in steps if _due(spec, states, edit, step)]


def _due(spec: Spec, states: States, edit: _Edit, step: Step) -> bool:
    gate = step.kind.removeprefix("check-")
    models = [model for model, route in spec.migrating().items() if step.target in (model, route.engine)]
    return edit.again(f"{gate} {step.target}") or any(states.routes.get(model) not in SHIFTABLE for model in models)


def _every_gate(spec: Spec) -> Iterator[Step]:
    for name in spec.engines:
        yield Step("check-health", name, "right model, and one token comes back")
    for model, route in spec.migrating().items():
        if route.kind == "generate":
            yield Step("check-parity", model, "both sides answer the same prompts in the same form")
        else:
            yield Step("check-vectors", model, "both sides give the same vectors")
    levels = ", ".join(map(str, spec.load.users))
    for model, route in spec.migrating().items():
        if route.kind == "generate":
            yield Step("check-load", model, f"{levels} users on both sides")


def _raise(back: dict[str, float], *, asks: bool) -> Step:
    cause = f"0 % -> {_percent(back)}: where it was before the edit"
    return Step("raise", ", ".join(back), cause, touches_live=asks, data={"routes": list(back)})


def _percent(weights: dict[str, float]) -> str:
    shown = [f"{weight:g} %" for weight in weights.values()]
    return shown[0] if len(set(shown)) == 1 else ", ".join(shown)


def _why(edit: _Edit, service: str) -> str:
    return edit.causes.get(service, "")


def _removed(spec: Spec, known: Deployed) -> str:
    gone = [f"vllm-{name}" for name in (known.spec.engines if known.spec else ()) if name not in spec.engines]
    return f"{', '.join(gone)} goes: no route uses it any more" if gone else ""


def _gateway(spec: Spec, states: States) -> Iterator[Step]:
    address = f"{spec.gateway.listen}:{spec.gateway.port}"
    if not spec.ollama.container:
        yield Step("open-gateway", "gateway", f"listens on {address}")
    elif states.stack is not StackState.TAKEN_OVER:
        yield _take_over(spec, address)
    else:
        yield Step("reload-services", "gateway, adapter", "they follow their files, nothing is cut")


def _take_over(spec: Spec, address: str) -> Step:
    left = "then cuts what is left" if spec.takeover.when_busy == "cut" else "then gives up"
    note = f"waits up to {spec.takeover.drain:.0f} s for running answers, {left}; one restart of Ollama"
    return Step(
        "take-over", address, f"clients keep the address of {spec.ollama.container}", touches_live=True, note=note
    )
