"""Unchanged client libraries against the whole stack: what they see is the same whoever answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clients_stack
import pytest
from clients_drivers import DRIVERS, Driver
from clients_stack import CHAT, EMBED, SIDES, THINKER
from compared import differences, rows

pytestmark = pytest.mark.docker
Json = dict[str, Any]
NAMES = {"chat": CHAT, "thinker": THINKER, "embed": EMBED}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, servers: Any) -> Iterator[clients_stack.Stack]:
    with clients_stack.running(Path(tmp_path_factory.mktemp("stack")), servers) as started:
        yield started


@pytest.fixture(scope="module")
def results(stack: clients_stack.Stack, home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Json]:
    """What every client's script answered, by side and client."""
    logs = tmp_path_factory.mktemp("drivers")
    drivers = [Driver(name, home, logs / name) for name in DRIVERS]
    found: dict[str, Json] = {}
    try:
        for driver in drivers:
            driver.ready()
        for side in SIDES:
            stack.turn(side)
            found[side] = {one.name: one.ask({"url": stack.url, "side": side, **NAMES}) for one in drivers}
    finally:
        for driver in drivers:
            driver.__exit__()
    return found


@pytest.mark.parametrize("side", SIDES[1:])
@pytest.mark.parametrize("client", DRIVERS)
def test_a_client_sees_no_undeclared_difference(results: dict[str, Json], client: str, side: str) -> None:
    found = differences(client, results["ollama"][client], results[side][client])
    undeclared = [one for one in found if not any(row.covers(one) for row in rows())]
    assert not undeclared, "\n".join(f"{o.case} at {o.path}: {o.ollama!r} on Ollama, {o.other!r}" for o in undeclared)
