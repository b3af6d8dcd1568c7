from itertools import product

import pytest

from orchestrator import state
from orchestrator.errors import ExitCode, WrongState
from orchestrator.state import (
    SHIFTABLE,
    EngineState,
    Event,
    RouteState,
    StackState,
    fold,
    next_engine,
    next_route,
    next_stack,
)

MACHINES = [
    (RouteState, state.ROUTE, next_route),
    (EngineState, state.ENGINE, next_engine),
    (StackState, state.STACK, next_stack),
]


@pytest.mark.parametrize("states, table, step", MACHINES)
def test_every_pair_is_in_the_table_or_refused(states, table, step):
    for now, event in product(states, Event):
        if (now, event) in table:
            assert step(now, event) is table[now, event]
        else:
            with pytest.raises(WrongState) as caught:
                step(now, event)
            assert caught.value.exit_code == ExitCode.STATE
            assert str(now) in caught.value.message
            assert str(event) in caught.value.message


@pytest.mark.parametrize("states, table, step", MACHINES)
def test_the_table_only_knows_its_own_states(states, table, step):
    assert {now for now, _ in table} | set(table.values()) <= set(states)


def reachable(table, start):
    found, todo = {start}, [start]
    while todo:
        now = todo.pop()
        for (before, _), after in table.items():
            if before is now and after not in found:
                found.add(after)
                todo.append(after)
    return found


def test_from_every_route_state_one_can_go_on_and_go_back():
    for now in reachable(state.ROUTE, RouteState.PLANNED):
        onward = reachable(state.ROUTE, now)
        assert RouteState.CUT_OVER in onward, f"{now} never gets to vLLM"
        assert RouteState.PLANNED in onward, f"{now} never gets back"


def test_every_route_state_can_be_rolled_back_and_then_carries_no_traffic():
    for now in reachable(state.ROUTE, RouteState.PLANNED):
        assert next_route(now, Event.ROLLED_BACK) not in (RouteState.SHIFTING, RouteState.CUT_OVER)


def test_a_route_that_stays_never_moves():
    assert reachable(state.ROUTE, RouteState.STAYS) == {RouteState.STAYS}


def test_traffic_moves_only_after_every_gate():
    gates = (Event.READY, Event.HEALTH_PASSED, Event.PARITY_PASSED, Event.LOAD_PASSED)
    now = RouteState.PLANNED
    for event in gates:
        assert now not in SHIFTABLE
        with pytest.raises(WrongState):
            next_route(now, Event.SHIFTED)
        now = next_route(now, event)
    assert now in SHIFTABLE
    for shiftable in SHIFTABLE:
        assert next_route(shiftable, Event.SHIFTED) is RouteState.SHIFTING


def test_a_new_engine_must_pass_every_gate_again():
    for now in (RouteState.DEPLOYED, RouteState.HEALTHY, RouteState.MATCHED, RouteState.PROVEN, RouteState.ROLLED_BACK):
        assert next_route(now, Event.READY) is RouteState.DEPLOYED


def test_a_stopped_engine_takes_its_proof_along():
    for now in (RouteState.PROVEN, RouteState.ROLLED_BACK, RouteState.MATCHED):
        assert next_route(now, Event.STOPPED) is RouteState.PLANNED
    for live in (RouteState.SHIFTING, RouteState.CUT_OVER):
        with pytest.raises(WrongState):
            next_route(live, Event.STOPPED)


def test_fold_keeps_since_when_and_leaves_out_what_the_spec_dropped():
    found = fold(
        [
            ("stack/demo", Event.TOOK_OVER, 1.0),
            ("engine/e", Event.STARTED, 2.0),
            ("engine/gone", Event.READY, 2.5),
            ("route/gone", Event.SHIFTED, 2.6),
            ("route/stays", Event.READY, 2.7),
            ("engine/e", Event.READY, 3.0),
            ("route/a", Event.READY, 4.0),
            ("route/a", Event.READY, 5.0),
            ("stack/demo", Event.TOOK_OVER, 6.0),
        ],
        {"a": True, "stays": False},
        ("e", "new"),
    )
    assert found.stack is StackState.TAKEN_OVER
    assert found.routes == {"a": RouteState.DEPLOYED, "stays": RouteState.STAYS}
    assert found.engines == {"e": EngineState.READY, "new": EngineState.ABSENT}
    assert found.since == {"stack/demo": 1.0, "engine/e": 3.0, "route/a": 4.0}


def test_a_route_with_slashes_in_its_name_is_found():
    name = "hf.co/org/repo:q4"
    assert fold([(f"route/{name}", Event.READY, 1.0)], {name: True}, ()).routes[name] is RouteState.DEPLOYED
