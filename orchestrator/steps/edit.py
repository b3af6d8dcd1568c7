"""An edit of what serves: its routes step aside to Ollama, and come back where they were once all is proven."""

from __future__ import annotations

import time
from typing import Any

from orchestrator.clients.gateway import Conflict
from orchestrator.errors import MigrateError, WrongState
from orchestrator.events import Kind
from orchestrator.plan.edits import evidence_digest
from orchestrator.spec import Spec
from orchestrator.state import SHIFTABLE, Event, RouteState
from orchestrator.steps import Context
from orchestrator.steps.lease import held, settle_debt
from orchestrator.steps.traffic import prove_way_back, unshift, write_down
from orchestrator.stop import poll
from orchestrator.workspace import Workspace

LIVE = (RouteState.SHIFTING, RouteState.CUT_OVER)
_GATES = {"generate": ("parity", "load"), "embedding": ("vectors",)}


class Lower:
    """All new requests of the routes to Ollama; what they had before is owed to them, and written down first."""

    def __init__(self, context: Context, routes: tuple[str, ...]) -> None:
        self.context = context
        self.routes = routes

    def already_done(self) -> bool:
        states = self.context.journal.states().routes
        weights = self.context.gateway.status().weights
        return all(states.get(model) not in LIVE and weights.get(model, 0.0) == 0 for model in self.routes)

    def do(self) -> dict[str, Any]:
        now = self.context.gateway.status().weights
        moving = {model: now.get(model, 0.0) for model in self.routes if now.get(model, 0.0) > 0}
        prove_way_back(self.context, {model: self._kind(model) for model in moving})
        owed = held(self.context.journal)
        for model, weight in moving.items():
            if weight > owed.get(model, 0.0):
                self.context.journal.append("held", model, f"{weight:g} %", {"weight": weight})
        unshift(self.context, self.routes, "up: an engine is made anew")
        shown = ", ".join(f"{model} {weight:g} %" for model, weight in moving.items()) or "nothing"
        return {"text": f"Ollama answers for them; on vLLM was: {shown}"}

    def undo(self) -> None:
        """The weights come back with the whole edit's undo, or with the next `up`: they are written down."""

    def _kind(self, model: str) -> str:
        route = self.context.spec.routes.get(model)
        if route is None:
            deployed = Workspace(self.context.dir).deployed()
            route = deployed.routes.get(model) if deployed else None
        return route.kind if route else "generate"


class Drain:
    """Waits until answers on the engines have ended, for a bounded time."""

    def __init__(self, context: Context, routes: tuple[str, ...], seconds: float, *, cut: bool) -> None:
        self.context = context
        self.routes = routes
        self.seconds = seconds
        self.cut = cut

    def already_done(self) -> bool:
        return not self._running()

    def do(self) -> dict[str, Any]:
        began = time.monotonic()
        ended = poll(self._ended, self.seconds, self.context.stop)
        if ended:
            return {"text": f"no answer is running any more, after {time.monotonic() - began:.0f} s"}
        left = self._running()
        if not self.cut:
            raise MigrateError(
                f"{left} answers are still running on vLLM after {self.seconds:.0f} s",
                hint="run migrate up again when it is quieter; longer: drain of the engine in migrate.yaml",
            )
        return {"text": f"{left} answers were still running after {self.seconds:.0f} s: they are cut"}

    def undo(self) -> None:
        """Waiting changes nothing."""

    def _ended(self) -> bool | None:
        running = self._running()
        if running:
            self.context.say("drain", f"waiting for {running} running answers", Kind.WAIT, reason="draining")
        return None if running else True

    def _running(self) -> int:
        live = self.context.gateway.status().live.by_route
        return sum(live.get(model, {}).get("vllm", 0) for model in self.routes)


class KeepSpec:
    """From here on this spec is what is deployed: a later edit is compared with it, and undone to it."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.space = Workspace(context.dir)

    def already_done(self) -> bool:
        return self.space.deployed() == self.context.spec

    def do(self) -> dict[str, Any]:
        self.space.keep_deployed(self.context.spec)
        return {"text": "kept"}

    def undo(self) -> None:
        """It is written whole or not at all."""


class Raise:
    """Gives the routes the weight that they had before the edit, in one step: their gates have passed."""

    def __init__(self, context: Context, routes: tuple[str, ...]) -> None:
        self.context = context
        self.routes = routes
        # A rollback since this was read, even while somebody is asked for a yes, wins.
        self._version = context.gateway.status().version

    def already_done(self) -> bool:
        return not self._owed()

    def do(self) -> dict[str, Any]:
        owed = self._owed()
        states = self.context.journal.states().routes
        for model in owed:
            if states[model] not in SHIFTABLE:
                raise WrongState(
                    f"{model} is {states[model]}: it may carry traffic only once it is proven", hint="run: migrate up"
                )
        at = time.time()
        try:
            version = self.context.gateway.set_weights(owed, self._version, by="up: the edit is done")
        except Conflict as error:
            raise WrongState("the weights were changed by somebody else", hint="migrate status") from error
        write_down(self.context, owed, at, version)
        for model, weight in owed.items():
            self._arrived(model, weight)
        # Last: a run that is killed before it gives the same weights again.
        settle_debt(self.context.journal, owed, "given back")
        return {"text": ", ".join(f"{model} {weight:g} %" for model, weight in owed.items())}

    def undo(self) -> None:
        """What is still owed stays written down."""

    def _owed(self) -> dict[str, float]:
        return {model: weight for model, weight in held(self.context.journal).items() if model in self.routes}

    def _arrived(self, model: str, weight: float) -> None:
        journal = self.context.journal
        if journal.states().routes[model] is not RouteState.SHIFTING:
            journal.move("route", model, Event.SHIFTED)
        if weight >= 100:
            journal.move("route", model, Event.ARRIVED)
        journal.append("approved", model, f"{weight:g} %", {"weight": weight})


class ReuseEvidence:
    """An engine that comes back as it was needs no new gates: what was proven of it is in the journal."""

    def __init__(self, context: Context, model: str) -> None:
        self.context = context
        self.model = model

    def already_done(self) -> bool:
        return proven(self.context, self.context.spec, self.model)

    def do(self) -> dict[str, Any]:
        journal, spec = self.context.journal, self.context.spec
        for gate in gates_of(spec, self.model):
            subject, digest = f"{gate} {self.model}", evidence_digest(spec, gate, self.model)
            passed = [one for one in journal.entries("verdict", subject)
                      if one.text == "pass" and one.data.get("spec") == digest]  # fmt: skip
            if not passed:
                raise MigrateError(f"{gate} of {self.model} was never proven on it", hint="run: migrate up")
            journal.append("verdict", subject, "pass", {**passed[-1].data, "reused": passed[-1].id})
        for event in (Event.HEALTH_PASSED, Event.PARITY_PASSED, Event.LOAD_PASSED):
            if journal.states().routes[self.model] is _BEFORE[event]:
                journal.move("route", self.model, event)
        return {"text": "it holds"}

    def undo(self) -> None:
        """Nothing but the journal was touched."""


_BEFORE = {
    Event.HEALTH_PASSED: RouteState.DEPLOYED, Event.PARITY_PASSED: RouteState.HEALTHY,
    Event.LOAD_PASSED: RouteState.MATCHED,
}  # fmt: skip


def gates_of(spec: Spec, model: str) -> tuple[str, ...]:
    """Return the gates, beside health, that a route passes before it may carry traffic."""
    return _GATES[spec.routes[model].kind]


def proven(context: Context, spec: Spec, model: str) -> bool:
    """Whether a route may carry traffic, and its newest evidence is about this spec."""
    last = {gate: context.journal.last("verdict", f"{gate} {model}") for gate in gates_of(spec, model)}
    current = all(
        one is not None and one.text == "pass" and one.data.get("spec") == evidence_digest(spec, gate, model)
        for gate, one in last.items()
    )
    return current and context.journal.states().routes[model] in SHIFTABLE
