"""Unchanged client libraries against the whole stack: what they see is the same whoever answers.

`CLIENTS=ollama,openai-js` runs only these.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import clients_stack
import pytest
from clients_drivers import DRIVERS, Driver
from clients_stack import CHAT, EMBED, SIDES, THINKER
from compared import Difference, differences, rows

pytestmark = pytest.mark.docker
Json = dict[str, Any]
NAMES = {"chat": CHAT, "thinker": THINKER, "embed": EMBED}
CLIENTS = os.environ.get("CLIENTS", ",".join(DRIVERS)).split(",")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, servers: Any) -> Iterator[clients_stack.Stack]:
    with clients_stack.running(Path(tmp_path_factory.mktemp("stack")), servers) as started:
        yield started


@pytest.fixture(scope="module")
def told(stack: clients_stack.Stack, home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Json]:
    """By side: every client's results, and `served`, who answered how many requests."""
    logs = tmp_path_factory.mktemp("drivers")
    found: dict[str, Json] = {}
    with ExitStack() as running:
        drivers = [running.enter_context(Driver(name, home, logs / name)) for name in CLIENTS]
        for driver in drivers:
            driver.ready()
        before: dict[str, int] = {}
        for side in SIDES:
            stack.turn(side)
            found[side] = {one.name: one.ask({"url": stack.url, "side": side, **NAMES}) for one in drivers}
            served = stack.served()
            found[side]["served"] = {who: number - before.get(who, 0) for who, number in served.items()}
            before = served
    return found


def refused(case: str) -> bool:
    """Tell whether a case is one that Ollama refuses; its name says so."""
    return case.endswith("-refused") or "unknown" in case


@pytest.mark.parametrize("client", CLIENTS)
def test_on_vllm_a_client_sees_what_it_saw_on_ollama(told: dict[str, Json], client: str) -> None:
    found = differences(client, told["ollama"][client], told["vllm"][client])
    undeclared = [one for one in found if not any(row.covers(one) for row in rows())]
    assert not undeclared, "\n".join(map(str, undeclared))


@pytest.mark.parametrize("client", CLIENTS)
def test_when_the_engines_are_gone_a_client_notices_nothing(told: dict[str, Json], client: str) -> None:
    found = differences(client, told["ollama"][client], told["failover"][client])
    assert not found, "\n".join(map(str, found))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_case_fails_when_it_should_and_only_then(told: dict[str, Json], client: str, side: str) -> None:
    declared = [row for row in rows() if row.covers(Difference(client, "count-tokens", "error", "", ""))]
    for case, result in told[side][client].items():
        failed = isinstance(result, dict) and {"error", "said"} <= result.keys()
        assert not (failed and "ours" in result), f"{case}: {result}"
        if not (declared and case == "count-tokens"):
            assert failed == refused(case), f"{case}: {result}"


@pytest.mark.parametrize("client", CLIENTS)
def test_a_stream_says_what_the_whole_answer_says(told: dict[str, Json], client: str) -> None:
    texts = {(side, case): result for side in SIDES for case, result in told[side][client].items() if "text" in case}
    wrong = [where for where, result in texts.items() if where[1] == "chat-text" and result is not True]
    assert not wrong


def test_every_side_answered_itself(told: dict[str, Json]) -> None:
    assert set(told["ollama"]["served"]) == {"ollama"}
    assert told["vllm"]["served"]["adapter"] > 20 * len(CLIENTS) / 2
    if set(CLIENTS) & {"openai", "openai-js", "litellm"}:
        assert told["vllm"]["served"]["direct"] > 0
    assert told["failover"]["served"]["ollama"] > told["vllm"]["served"]["ollama"]


def test_every_declared_difference_is_one(told: dict[str, Json]) -> None:
    found = [one for client in CLIENTS for one in differences(client, told["ollama"][client], told["vllm"][client])]
    unused = [row for row in rows() if set(row.clients.split(", ")) & set(CLIENTS) and not any(map(row.covers, found))]
    assert not unused, json.dumps([row.why for row in unused])
