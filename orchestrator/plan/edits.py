"""(spec of before, spec of now, states) → what an edit of migrate.yaml does to what is deployed. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.spec import Spec
from orchestrator.spec_engine import Engine
from orchestrator.state import EngineState, RouteState, StackState, States

How = Literal["weight 0 first", "hold", "in place", "refused"]
LIVE = (RouteState.SHIFTING, RouteState.CUT_OVER)
UNDO = "put the old value back into migrate.yaml, then run migrate up"


@dataclass(frozen=True, slots=True)
class Change:
    """One container (or the files alone) that an edit touches.

    `live`: it has traffic now. `how`: `in place` cuts nothing; `weight 0 first` sends new requests to Ollama before
    the container is made anew; `hold`: Ollama itself restarts before it serves the stack; `refused` until the port
    is given back. `gates_rerun`: what has to be proven again before traffic.
    """

    service: str
    cause: str
    live: bool
    how: How
    gates_rerun: tuple[str, ...] = ()
    undo: str = UNDO

    def __str__(self) -> str:
        gates = f"; gates again: {', '.join(self.gates_rerun)}" if self.gates_rerun else ""
        return f"{self.service}: {self.cause}; {self.how}{' (live)' if self.live else ''}{gates}; undo: {self.undo}"


def changes(old: Spec, new: Spec, states: States) -> list[Change]:
    """Return what follows from the edit, Ollama and the gateway first; an empty list: nothing does."""
    return [*_ollama(old, new, states), *_gateway(old, new, states), *_engines(old, new, states),
            *_rules(old, new)]  # fmt: skip


def _ollama(old: Spec, new: Spec, states: States) -> Iterator[Change]:
    # `pinned` is the preload service's; the URL is only where plan looks.
    cause = _differences(_plain(old.ollama, "pinned", "url"), _plain(new.ollama, "pinned", "url"))
    taken = states.stack is StackState.TAKEN_OVER
    if cause:
        yield Change("ollama", cause, taken, "refused" if taken else "hold")
    if old.ollama.pinned != new.ollama.pinned:
        yield Change("preload", _value("pinned", old.ollama.pinned, new.ollama.pinned), False, "in place")


def _gateway(old: Spec, new: Spec, states: States) -> Iterator[Change]:
    taken = states.stack is StackState.TAKEN_OVER
    ports = _differences(_plain(old.gateway), _plain(new.gateway))
    image = _differences({"image": old.images.gateway}, {"image": new.images.gateway})
    cause = "; ".join(filter(None, (ports, image)))
    if cause:
        yield Change("gateway", cause, taken, "refused" if taken else "in place")
    sidecar = _differences({"image": old.images.sidecar}, {"image": new.images.sidecar})
    if sidecar:
        yield Change("adapter, guard", sidecar, taken, "in place")
    before, now = (set(spec.migrating()) for spec in (old, new))
    for model in sorted(before ^ now):
        verb = "is new" if model in now else "stays on Ollama from now on"
        live = states.routes.get(model) in LIVE
        gates = _gates(new, [model]) if model in now else ()
        yield Change(f"route {model}", f"it {verb}", live, "weight 0 first" if live else "in place", gates)


def _engines(old: Spec, new: Spec, states: States) -> Iterator[Change]:
    for name in [*old.engines, *(name for name in new.engines if name not in old.engines)]:
        served = [model for spec in (old, new) for model, route in spec.migrating().items() if route.engine == name]
        live = any(states.routes.get(model) in LIVE for model in served)
        gates = _gates(new, [model for model, route in new.migrating().items() if route.engine == name])
        before, now = old.engines.get(name), new.engines.get(name)
        if now is None:
            cause, gates = "no route uses it any more", ()
        elif before is None:
            cause = f"{now.repo} is new"
        else:
            cause = _differences(_engine(old, name, before), _engine(new, name, now))
        if cause:
            running = states.engines.get(name) in (EngineState.READY, EngineState.STARTING)
            how: How = "weight 0 first" if live and running else "in place"
            yield Change(f"vllm-{name}", cause, live, how, gates)


def _rules(old: Spec, new: Spec) -> Iterator[Change]:
    for section in ("cutover", "takeover"):
        cause = _differences(_plain(getattr(old, section)), _plain(getattr(new, section)))
        if cause:
            yield Change(section, cause, False, "in place")
    for section, gate in (("parity", "parity"), ("load", "load")):
        cause = _differences(_plain(getattr(old, section)), _plain(getattr(new, section)))
        if cause:
            kept = [one for one in _gates(new, list(new.migrating())) if one.startswith(gate)]
            yield Change(section, cause, False, "in place", tuple(kept))


def _engine(spec: Spec, name: str, engine: Engine) -> dict[str, Any]:
    routes = {
        f"routes {model}": route.model_dump(mode="json")
        for model, route in spec.migrating().items() if route.engine == name
    }  # fmt: skip
    return {**_plain(engine), "image": engine.image or spec.images.vllm, **routes}


def _gates(spec: Spec, models: list[str]) -> tuple[str, ...]:
    found = [f"health {engine}" for engine in dict.fromkeys(spec.routes[model].engine for model in models)]
    for model in models:
        kinds = ("parity", "load") if spec.routes[model].kind == "generate" else ("vectors",)
        found += [f"{kind} {model}" for kind in kinds]
    return tuple(found)


def _plain(section: Any, *without: str) -> dict[str, Any]:
    data: dict[str, Any] = section.model_dump(mode="json", exclude=set(without))
    return data


def _differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    keys = dict.fromkeys([*old, *new])
    return "; ".join(_value(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key))


def _value(key: str, old: Any, new: Any) -> str:
    # Environments may hold what nobody should read: their names are enough.
    if isinstance(old, dict) or isinstance(new, dict):
        before, now = old or {}, new or {}
        names = [name for name in dict.fromkeys([*before, *now]) if before.get(name) != now.get(name)]
        return f"{key} ({', '.join(names)}) changed"
    return f"{key} {old} -> {new}"
