"""Where a migration stands: states as enums, transitions as tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from orchestrator.errors import WrongState


class RouteState(StrEnum):
    """State of one Ollama name on its way to an engine."""

    STAYS = "stays"
    PLANNED = "planned"
    DEPLOYED = "deployed"
    HEALTHY = "healthy"
    MATCHED = "matched"
    PROVEN = "proven"
    SHIFTING = "shifting"
    CUT_OVER = "cut over"
    ROLLED_BACK = "rolled back"
    RETIRED = "retired"


class EngineState(StrEnum):
    ABSENT = "absent"
    STARTING = "starting"
    READY = "ready"
    STOPPED = "stopped"


class StackState(StrEnum):
    PLANNED = "planned"
    TAKEN_OVER = "taken over"
    RESTORED = "restored"


class Event(StrEnum):
    """What may happen to a route, an engine or the stack."""

    STARTED = "started"
    READY = "ready"
    HEALTH_PASSED = "health passed"
    PARITY_PASSED = "parity passed"
    LOAD_PASSED = "load passed"
    SHIFTED = "shifted"
    ARRIVED = "arrived"
    ROLLED_BACK = "rolled back"
    STOPPED = "stopped"
    FAILED = "gate failed"
    TOOK_OVER = "took over"
    RESTORED = "restored"


_R, _E, _S = RouteState, EngineState, StackState

ROUTE: dict[tuple[RouteState, Event], RouteState] = {
    (_R.PLANNED, Event.READY): _R.DEPLOYED,
    (_R.DEPLOYED, Event.HEALTH_PASSED): _R.HEALTHY,
    (_R.HEALTHY, Event.PARITY_PASSED): _R.MATCHED,
    (_R.MATCHED, Event.LOAD_PASSED): _R.PROVEN,
    (_R.PROVEN, Event.SHIFTED): _R.SHIFTING,
    (_R.SHIFTING, Event.SHIFTED): _R.SHIFTING,
    (_R.SHIFTING, Event.ARRIVED): _R.CUT_OVER,
    (_R.CUT_OVER, Event.SHIFTED): _R.SHIFTING,
    (_R.SHIFTING, Event.ROLLED_BACK): _R.ROLLED_BACK,
    (_R.CUT_OVER, Event.ROLLED_BACK): _R.ROLLED_BACK,
    (_R.ROLLED_BACK, Event.ROLLED_BACK): _R.ROLLED_BACK,
    (_R.ROLLED_BACK, Event.SHIFTED): _R.SHIFTING,
    # A route that never carried traffic has nothing to roll back: the state says how far it came.
    (_R.PLANNED, Event.ROLLED_BACK): _R.PLANNED,
    (_R.DEPLOYED, Event.ROLLED_BACK): _R.DEPLOYED,
    (_R.HEALTHY, Event.ROLLED_BACK): _R.HEALTHY,
    (_R.MATCHED, Event.ROLLED_BACK): _R.MATCHED,
    (_R.PROVEN, Event.ROLLED_BACK): _R.PROVEN,
    # A new engine must pass every gate again.
    (_R.DEPLOYED, Event.READY): _R.DEPLOYED,
    (_R.HEALTHY, Event.READY): _R.DEPLOYED,
    (_R.MATCHED, Event.READY): _R.DEPLOYED,
    (_R.PROVEN, Event.READY): _R.DEPLOYED,
    (_R.ROLLED_BACK, Event.READY): _R.DEPLOYED,
    # A gate that says no takes back what the gates before it said.
    (_R.DEPLOYED, Event.FAILED): _R.DEPLOYED,
    (_R.HEALTHY, Event.FAILED): _R.DEPLOYED,
    (_R.MATCHED, Event.FAILED): _R.DEPLOYED,
    (_R.PROVEN, Event.FAILED): _R.DEPLOYED,
    (_R.ROLLED_BACK, Event.FAILED): _R.DEPLOYED,
    # A stopped engine leaves nothing to send traffic to.
    (_R.DEPLOYED, Event.STOPPED): _R.PLANNED,
    (_R.HEALTHY, Event.STOPPED): _R.PLANNED,
    (_R.MATCHED, Event.STOPPED): _R.PLANNED,
    (_R.PROVEN, Event.STOPPED): _R.PLANNED,
    (_R.ROLLED_BACK, Event.STOPPED): _R.PLANNED,
    (_R.PLANNED, Event.STOPPED): _R.PLANNED,
}

ENGINE: dict[tuple[EngineState, Event], EngineState] = {
    (_E.ABSENT, Event.STARTED): _E.STARTING,
    (_E.STOPPED, Event.STARTED): _E.STARTING,
    (_E.STARTING, Event.STARTED): _E.STARTING,
    (_E.READY, Event.STARTED): _E.STARTING,
    (_E.STARTING, Event.READY): _E.READY,
    (_E.READY, Event.READY): _E.READY,
    (_E.STARTING, Event.STOPPED): _E.STOPPED,
    (_E.READY, Event.STOPPED): _E.STOPPED,
    (_E.STOPPED, Event.STOPPED): _E.STOPPED,
    (_E.ABSENT, Event.STOPPED): _E.ABSENT,
}

STACK: dict[tuple[StackState, Event], StackState] = {
    (_S.PLANNED, Event.TOOK_OVER): _S.TAKEN_OVER,
    (_S.RESTORED, Event.TOOK_OVER): _S.TAKEN_OVER,
    (_S.TAKEN_OVER, Event.TOOK_OVER): _S.TAKEN_OVER,
    (_S.TAKEN_OVER, Event.RESTORED): _S.RESTORED,
    (_S.RESTORED, Event.RESTORED): _S.RESTORED,
    (_S.PLANNED, Event.RESTORED): _S.PLANNED,
}

# Traffic may be shifted to vLLM only from these.
SHIFTABLE = frozenset({_R.PROVEN, _R.SHIFTING, _R.CUT_OVER, _R.ROLLED_BACK})


def next_route(state: RouteState, event: Event) -> RouteState:
    """Return the state after `event`; raises WrongState when the table has no such row."""
    return _next(ROUTE, state, event)


def next_engine(state: EngineState, event: Event) -> EngineState:
    """Return the state after `event`; raises WrongState when the table has no such row."""
    return _next(ENGINE, state, event)


def next_stack(state: StackState, event: Event) -> StackState:
    """Return the state after `event`; raises WrongState when the table has no such row."""
    return _next(STACK, state, event)


S = TypeVar("S", bound=StrEnum)


def _next(table: dict[tuple[S, Event], S], state: S, event: Event) -> S:
    try:
        return table[state, event]
    except KeyError:
        raise WrongState(f"a {type(state).__name__} that is {state} cannot become {event}") from None


@dataclass(frozen=True, slots=True)
class States:
    """The present: every state, and since when (seconds since the epoch) by `route/NAME`, `engine/NAME`."""

    stack: StackState
    routes: dict[str, RouteState]
    engines: dict[str, EngineState]
    since: dict[str, float]


def fold(
    moves: Iterable[tuple[str, Event, float]], routes: dict[str, bool], engines: tuple[str, ...]
) -> States:
    """Derive the present from (subject, event, time) in order; names that the spec dropped are left out."""
    stack = StackState.PLANNED
    route = {name: RouteState.PLANNED if moves_on else RouteState.STAYS for name, moves_on in routes.items()}
    engine = dict.fromkeys(engines, EngineState.ABSENT)
    since: dict[str, float] = {}
    for subject, event, at in moves:
        what, _, name = subject.partition("/")
        before: StrEnum
        after: StrEnum
        if what == "route" and route.get(name, RouteState.STAYS) is not RouteState.STAYS:
            before = route[name]
            after = route[name] = next_route(route[name], event)
        elif what == "engine" and name in engine:
            before = engine[name]
            after = engine[name] = next_engine(engine[name], event)
        elif what == "stack":
            before = stack
            after = stack = next_stack(stack, event)
        else:
            continue
        if before is not after:
            since[subject] = at
    return States(stack, route, engine, since)
