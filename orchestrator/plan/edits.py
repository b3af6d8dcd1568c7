"""(spec of before, spec of now, states) → what an edit of migrate.yaml does to what is deployed. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.spec import Spec
from orchestrator.spec_engine import Engine
from orchestrator.state import EngineState, RouteState, StackState, States

How = Literal["weight 0 first", "hold", "in place", "refused"]
LIVE = (RouteState.SHIFTING, RouteState.CUT_OVER)
UNDO = "put the old value back into migrate.yaml, then run migrate up"
WAY = "run migrate rollback --restore (Ollama gets its port back), then migrate up; or put the old value back"
# What Docker learns only when the container is made anew for another reason; nothing runs differently by it.
_WAITS = ("start_timeout", "drain")
_CHOICE = ("sticky", "shadow")     # what the gateway alone follows, and no evidence depends on
_SECTIONS = {"parity": "parity", "vectors": "parity", "load": "load"}


@dataclass(frozen=True, slots=True)
class Deployed:
    """What runs: the spec of the last `up`, weights in effect, and those that an unfinished edit owes (percent).

    `gone`: routes whose model Ollama does not have any more; they cannot be sent back there. `settled`: steps, as
    `str(step)`, that a look at the world found done already.
    """

    spec: Spec | None = None
    weights: dict[str, float] = field(default_factory=dict)
    held: dict[str, float] = field(default_factory=dict)
    gone: tuple[str, ...] = ()
    settled: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Change:
    """One container (or the files alone) that an edit touches.

    `live`: it has traffic now. `how`: `in place` cuts nothing; `weight 0 first` sends new requests to Ollama before
    the container is made anew; `hold`: Ollama itself restarts before it serves the stack; `refused` until the port
    is given back. `routes`: whose weight that is. `gates_rerun`: what has to be proven again before traffic.
    """

    service: str
    cause: str
    live: bool
    how: How
    gates_rerun: tuple[str, ...] = ()
    undo: str = UNDO
    routes: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()        # of an engine: its replicas, before and after

    def __str__(self) -> str:
        gates = f"; gates again: {', '.join(self.gates_rerun)}" if self.gates_rerun else ""
        way = f"; {WAY}" if self.how == "refused" else f"; undo: {self.undo}"
        what = ", ".join(self.containers) or self.service
        return f"{what}: {self.cause}; {self.how}{' (live)' if self.live else ''}{gates}{way}"


def changes(old: Spec, new: Spec, states: States, held: dict[str, float] | None = None) -> list[Change]:
    """Return what follows from the edit, Ollama and the gateway first; an empty list: nothing does."""
    traffic = {model for model, state in states.routes.items() if state in LIVE}
    traffic |= {model for model, weight in (held or {}).items() if weight > 0}
    return [*_ollama(old, new, states), *_gateway(old, new, states), *_sidecar(old, new, states, traffic),
            *_routes(old, new, traffic), *_engines(old, new, states, traffic), *_rules(old, new)]  # fmt: skip


def between(old: Spec, new: Spec) -> Spec:
    """Return the spec of everything that may run while an edit is not finished: what was, and what it adds."""
    return new.model_copy(update={
        "gateway": old.gateway, "ollama": old.ollama,
        "engines": {**new.engines, **old.engines}, "routes": {**new.routes, **old.routes},
    })  # fmt: skip


def engine_digest(spec: Spec, name: str) -> str:
    """Return a digest of what the container of an engine is made of."""
    return _digest(_engine(spec, name, spec.engines[name]))


def evidence_digest(spec: Spec, gate: str, target: str) -> str:
    """Return a digest of everything that a gate's evidence depends on; the evidence expires when it changes.

    `gate`: health, parity, vectors or load; `target`: the engine for health, else the route.
    """
    engine = target if gate == "health" else spec.routes[target].engine or ""
    needs: dict[str, Any] = {
        "engine": _engine(spec, engine, spec.engines[engine]), "images": [spec.images.sidecar, spec.images.gateway],
    }
    if gate != "health":
        section = _SECTIONS[gate]
        needs |= {section: _plain(getattr(spec, section)), "ollama": _ollama_of(spec), "route": target}
    return _digest(needs)


def _ollama(old: Spec, new: Spec, states: States) -> Iterator[Change]:
    cause = _differences(_ollama_of(old), _ollama_of(new))
    taken = states.stack is StackState.TAKEN_OVER
    if cause:
        gates = tuple(one for one in _gates(new, list(new.migrating())) if not one.startswith("health"))
        yield Change("ollama", cause, taken, "refused" if taken else "hold", gates)
    elif old.ollama.pinned != new.ollama.pinned:
        yield Change("preload", _value("pinned", old.ollama.pinned, new.ollama.pinned), False, "in place")


def _gateway(old: Spec, new: Spec, states: States) -> Iterator[Change]:
    taken = states.stack is StackState.TAKEN_OVER
    ports = _differences(_plain(old.gateway, "sticky"), _plain(new.gateway, "sticky"))
    image = _differences({"image": old.images.gateway}, {"image": new.images.gateway})
    cause = "; ".join(filter(None, (ports, image)))
    if cause:
        gates = _gates(new, list(new.migrating())) if image else ()
        yield Change("gateway", cause, taken, "refused" if taken else "in place", gates)


def _sidecar(old: Spec, new: Spec, states: States, traffic: set[str]) -> Iterator[Change]:
    cause = _differences({"image": old.images.sidecar}, {"image": new.images.sidecar})
    if cause:
        live = tuple(model for model in states.routes if model in traffic)
        how: How = "weight 0 first" if live else "in place"
        yield Change("adapter", cause, bool(live), how, _gates(new, list(new.migrating())), routes=live)


def _routes(old: Spec, new: Spec, traffic: set[str]) -> Iterator[Change]:
    before, now = old.migrating(), new.migrating()
    for model in [*before, *(model for model in now if model not in before)]:
        if (model in before) == (model in now):
            continue
        verb = "is new" if model in now else "stays on Ollama from now on"
        live = model in traffic
        gates = _gates(new, [model]) if model in now else ()
        how: How = "weight 0 first" if live else "in place"
        yield Change(f"route {model}", f"it {verb}", live, how, gates, routes=(model,) if live else ())


def _engines(old: Spec, new: Spec, states: States, traffic: set[str]) -> Iterator[Change]:
    for name in [*old.engines, *(name for name in new.engines if name not in old.engines)]:
        served = [model for spec in (old, new) for model, route in spec.migrating().items() if route.engine == name]
        live = tuple(dict.fromkeys(model for model in served if model in traffic))
        gates = _gates(new, [model for model, route in new.migrating().items() if route.engine == name])
        before, now = old.engines.get(name), new.engines.get(name)
        if now is None:
            cause, gates = "no route uses it any more", ()
        elif before is None:
            cause = f"{now.repo} is new"
        else:
            cause = _differences(_engine(old, name, before), _engine(new, name, now))
        if cause:
            exists = states.engines.get(name, EngineState.READY) is not EngineState.ABSENT
            how: How = "weight 0 first" if live and exists else "in place"
            both = [one for spec in (old, new) if name in spec.engines for one in spec.replicas(name)]
            names = tuple(f"vllm-{one}" for one in dict.fromkeys(both))
            yield Change(f"vllm-{name}", cause, bool(live), how, gates, routes=live, containers=names)
        elif before and now and (waits := _differences(_waits(before), _waits(now))):
            yield Change(f"vllm-{name}", f"{waits} (it keeps running)", False, "in place")


def _rules(old: Spec, new: Spec) -> Iterator[Change]:
    chosen = _differences(_choices(old), _choices(new))
    if chosen:
        yield Change("gateway", f"{chosen} (it reads this while it serves)", False, "in place")
    for section in ("cutover", "takeover"):
        cause = _differences(_plain(getattr(old, section)), _plain(getattr(new, section)))
        if cause:
            yield Change(section, cause, False, "in place")
    for section in ("parity", "load"):
        cause = _differences(_plain(getattr(old, section)), _plain(getattr(new, section)))
        if cause:
            gates = [one for one in _gates(new, list(new.migrating())) if _SECTIONS.get(one.split()[0]) == section]
            yield Change(section, cause, False, "in place", tuple(gates))


def _ollama_of(spec: Spec) -> dict[str, Any]:
    # The URL is only where plan looks; of the pinned models Ollama itself is told the number.
    return {**_plain(spec.ollama, "pinned", "url"), "pinned": len(spec.ollama.pinned)}


def _engine(spec: Spec, name: str, engine: Engine) -> dict[str, Any]:
    routes = {
        f"routes {model}": route.model_dump(mode="json", exclude=set(_CHOICE))
        for model, route in spec.migrating().items() if route.engine == name
    }  # fmt: skip
    return {**_plain(engine, *_WAITS), "image": engine.image or spec.images.vllm, **routes}


def _choices(spec: Spec) -> dict[str, Any]:
    """Return how requests are shared out: unset ones are left out, so that a new route is no change of them."""
    found = {
        f"{key} of {model}": route.model_dump(mode="json")[key]
        for model, route in spec.migrating().items() for key in _CHOICE
    }  # fmt: skip
    return {"sticky": spec.gateway.sticky} | {key: value for key, value in found.items() if value is not None}


def _waits(engine: Engine) -> dict[str, Any]:
    return {name: getattr(engine, name) for name in _WAITS}


def _gates(spec: Spec, models: list[str]) -> tuple[str, ...]:
    found = [f"health {engine}" for engine in dict.fromkeys(spec.routes[model].engine for model in models)]
    for model in models:
        kinds = ("parity", "load") if spec.routes[model].kind == "generate" else ("vectors",)
        found += [f"{kind} {model}" for kind in kinds]
    return tuple(found)


def _plain(section: Any, *without: str) -> dict[str, Any]:
    data: dict[str, Any] = section.model_dump(mode="json", exclude=set(without))
    return data


def _digest(data: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    keys = dict.fromkeys([*old, *new])
    return "; ".join(_value(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key))


def _value(key: str, old: Any, new: Any) -> str:
    if key.startswith("routes ") and (old is None or new is None):
        return f"{key.removeprefix('routes ')} {'leaves' if new is None else 'joins'} it"
    # Environments may hold what nobody should read: their names are enough.
    if isinstance(old, dict) or isinstance(new, dict):
        before, now = old or {}, new or {}
        names = [name for name in dict.fromkeys([*before, *now]) if before.get(name) != now.get(name)]
        return f"{key} ({', '.join(names)}) changed"
    return f"{key} {old} -> {new}"
