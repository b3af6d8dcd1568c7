"""An edit of what serves: who steps aside to Ollama meanwhile, what comes back, and how a failed edit is undone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestrator.errors import WrongState
from orchestrator.plan.edits import WAY, Change, Deployed, changes
from orchestrator.plan.step import Plan, Step
from orchestrator.spec import Spec
from orchestrator.state import States


@dataclass(frozen=True, slots=True)
class Edit:
    """What an edit asks for: containers to make anew, routes that step aside, weights to come back to (percent)."""

    found: tuple[Change, ...]
    causes: dict[str, str]          # service -> which keys
    aside: dict[str, float]
    back: dict[str, float]
    drain_s: float = 0.0

    def again(self, gate: str) -> bool:
        """Whether the evidence of a gate, such as `parity llama3.1:8b`, expires with the edit."""
        return any(gate in change.gates_rerun for change in self.found)


def edit_of(spec: Spec, states: States, known: Deployed) -> Edit:
    """Compare with what runs; raises WrongState for what cannot change while clients are served."""
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
    return Edit(found, {one.service: one.cause for one in found}, aside, back, max(waits, default=0.0))


def _refuse(found: list[Change]) -> None:
    if found:
        raise WrongState(
            "; ".join(f"{one.service}: {one.cause}" for one in found)
            + ": this cannot change while the stack serves the port of Ollama",
            hint=WAY,
        )


def step_aside(spec: Spec, edit: Edit) -> Iterator[Step]:
    """Steps that send the traffic of changed engines to Ollama and wait for their running answers."""
    routes = list(edit.aside)
    changed = [one for one in edit.found if one.how == "weight 0 first" and not one.service.startswith("route ")]
    containers = [name for one in changed for name in one.containers or (one.service,)]
    low = not any(edit.aside.values())
    move = "is at 0 % already" if low else f"{_percent(edit.aside)} -> 0 %"
    leaving = [model for model in routes if model not in spec.migrating()]
    stays = f"; {', '.join(leaving)} {'stays' if len(leaving) == 1 else 'stay'} there" if leaving else ""
    cause = f"{move}: Ollama answers while {are(containers)} changed{stays}"
    vectors = [model for model in routes if model in spec.routes and spec.routes[model].kind == "embedding"]
    note = f"meanwhile the vectors of {', '.join(vectors)} are Ollama's" if vectors else ""
    yield Step("lower", ", ".join(routes), cause, touches_live=not low, note=note, data={"routes": routes})
    busy = spec.takeover.when_busy
    then = "then cuts what is left" if busy == "cut" else "then gives up"
    yield Step(
        "drain", ", ".join(containers), f"waits up to {edit.drain_s:.0f} s for running answers, {then}",
        data={"routes": routes, "seconds": edit.drain_s, "when_busy": busy},
    )


def _named(spec: Spec, engine: str) -> str:
    return ", ".join(f"vllm-{one}" for one in spec.replicas(engine))


def are(names: Sequence[str]) -> str:
    """Return the names with the verb that fits them."""
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"


def give_back(back: dict[str, float], *, asks: bool) -> Step:
    """The step that raises routes to the weights (percent) that they had; `asks` for a yes, as it touches traffic."""
    cause = f"0 % -> {_percent(back)}: where it was before the edit"
    return Step("raise", ", ".join(back), cause, touches_live=asks, data={"routes": list(back)})


def _percent(weights: dict[str, float]) -> str:
    shown = [f"{weight:g} %" for weight in weights.values()]
    return shown[0] if len(set(shown)) == 1 else ", ".join(shown)


def plan_back(spec: Spec, old: Spec, states: States, held: dict[str, float]) -> Plan:
    """Undo an edit that failed: the containers of before come back, and with them their weights."""
    edited = {change.service.removeprefix("vllm-") for change in changes(spec, old, states, held)}
    steps = [Step("write-files", "stack", "as they were before the edit")]
    steps.append(Step("start-service", "adapter", "as it was before the edit"))
    steps.append(Step("reload-services", "gateway, adapter", "they follow their files, nothing is cut"))
    steps.append(Step("start-service", "guard", "as it was before the edit"))
    steps.append(Step("remove-unused", "engines", "the stack of before does not have them"))
    back = [name for name in old.engines if name in edited]
    steps += [Step("recreate-engine", name, f"{_named(old, name)} as before the edit") for name in back]
    routes = [model for model in old.migrating() if held.get(model)]
    asked = dict.fromkeys([*back, *(old.routes[model].engine or "" for model in routes)])
    steps += [Step("check-health", name, "right model, and one token comes back") for name in asked]
    steps += [Step("reuse-evidence", model, "its gates passed on this very engine") for model in routes]
    if routes:
        steps.append(give_back({model: held[model] for model in routes}, asks=False))
    return Plan("undo", spec.name, tuple(steps))
