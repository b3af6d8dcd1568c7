"""Unchanged client libraries against the whole stack: what they see is the same whoever answers.

`CLIENTS=ollama,openai-js` runs only these.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
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
CLIENTS = os.environ.get("CLIENTS", ",".join(DRIVERS)).split(",")


@pytest.fixture(scope="module")
def told(servers: Any, home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Json]:
    """By side: every client's results, and `served`, who answered how many requests."""
    folder = tmp_path_factory.mktemp("clients")
    found: dict[str, Json] = {}
    with ExitStack() as opened:
        drivers = [opened.enter_context(Driver(name, home, folder / f"{name}.log")) for name in CLIENTS]
        for driver in drivers:
            driver.ready()
        for side, stack in clients_stack.turns(folder, servers):
            before = stack.served()
            found[side] = {one.name: one.ask({"url": stack.url, "side": side, **NAMES}) for one in drivers}
            found[side]["served"] = {who: count - before.get(who, 0) for who, count in stack.served().items()}
    return found


def refused(case: str, side: str) -> bool:
    """Tell whether a case must fail: one that Ollama refuses says so in its name, and its store may be gone."""
    return case.endswith("-refused") or "unknown" in case or (side == "absent" and case in ("copy-delete", "create"))


@pytest.mark.parametrize("side", ["vllm", "absent"])
@pytest.mark.parametrize("client", CLIENTS)
def test_on_vllm_a_client_sees_what_it_saw_on_ollama(told: dict[str, Json], client: str, side: str) -> None:
    found = differences(client, told["ollama"][client], told[side][client])
    undeclared = [one for one in found if not any(row.covers(one, side) for row in rows())]
    assert not undeclared, "\n".join(map(str, undeclared))


@pytest.mark.parametrize("client", CLIENTS)
def test_when_the_engines_are_gone_a_client_notices_nothing(told: dict[str, Json], client: str) -> None:
    found = differences(client, told["ollama"][client], told["failover"][client])
    assert not found, "\n".join(map(str, found))


@pytest.mark.parametrize("side", [*SIDES, "absent"])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_case_fails_when_it_should_and_only_then(told: dict[str, Json], client: str, side: str) -> None:
    for case, result in told[side][client].items():
        failed = isinstance(result, dict) and {"error", "said"} <= result.keys()
        assert not (failed and "ours" in result), f"{case}: {result}"
        if case != "count-tokens":  # declared: Ollama has no such path
            assert failed == refused(case, side), f"{case}: {result}"


@pytest.mark.parametrize("client", CLIENTS)
def test_a_stream_says_what_the_whole_answer_says(told: dict[str, Json], client: str) -> None:
    assert [side for side in told if told[side][client].get("chat-text") is False] == []


def test_every_side_answered_itself(told: dict[str, Json]) -> None:
    assert set(told["ollama"]["served"]) == {"ollama"}
    assert told["vllm"]["served"]["adapter"] > 10 * len(CLIENTS)
    if set(CLIENTS) & {"openai", "openai-js", "litellm"}:
        assert told["vllm"]["served"]["direct"] > 0
    assert told["failover"]["served"]["ollama"] > told["vllm"]["served"]["ollama"]


def test_every_declared_difference_is_one(told: dict[str, Json]) -> None:
    found = [
        (one, side)
        for side in ("vllm", "absent")
        for client in CLIENTS
        for one in differences(client, told["ollama"][client], told[side][client])
    ]
    about = [row for row in rows() if row.clients == "*" or set(row.clients.split(", ")) & set(CLIENTS)]
    unused = [row.why for row in about if not any(row.covers(*one) for one in found)]
    assert not unused, unused
