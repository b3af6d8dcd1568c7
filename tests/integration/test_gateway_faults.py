"""What breaks while nobody watches: every request is answered to its end, or told that it will not be; none twice.

The stack runs by itself, with stand-in engines; no command of `migrate` is at work.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from fleet import Fleet
from plain_stack import MODEL, PlainStack

pytestmark = [pytest.mark.docker, pytest.mark.staged]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainStack]:
    stack = PlainStack(tmp_path_factory.mktemp("plain"))
    try:
        stack.up()
        yield stack
    finally:
        stack.down()


@pytest.fixture
def stack(shared: PlainStack) -> PlainStack:
    """Everything up and friendly, no circuit open, all weight on vLLM."""
    for fault in shared.faults.iterdir():
        fault.unlink()
    shared.up()
    shared.until("no circuit is open", lambda: not shared.circuits())
    shared.weight(100)
    return shared


def counted(fleet: Fleet, allowed: int = 0, *also: str) -> Counter[str]:
    """Nothing is lost, nothing doubled; at most `allowed` streams that ran on what was killed were told so."""
    counts = fleet.count()
    print(counts)
    bad = fleet.bad()
    assert {one.outcome for one in bad} <= {"error", "cut", *also}, bad[:3]
    assert len([one for one in bad if one.outcome not in also]) <= allowed, bad[:3]
    whole: dict[tuple[str, bool], Counter[str]] = {(one.path, one.stream): Counter() for one in fleet.answers}
    for one in fleet.answers:
        if one.outcome == "complete":
            whole[one.path, one.stream][one.text] += 1
    # Both sides are sure of what they say: a token lost or said twice would be another text.
    assert all(len(texts) <= 2 for texts in whole.values()), whole
    return counts


def answered(fleet: Fleet, more: int) -> None:
    """Wait until so many more answers have come."""
    wanted, end = len(fleet.answers) + more, time.monotonic() + 60
    while len(fleet.answers) < wanted:
        assert time.monotonic() < end, "no answers come any more"
        time.sleep(0.02)


@pytest.mark.parametrize("how", ["pause", "SIGSTOP"])
def test_a_frozen_engine_loses_its_requests_and_gets_them_back(stack: PlainStack, how: str) -> None:
    with Fleet(stack.url, MODEL, 4) as fleet:
        answered(fleet, 20)
        stack.freeze(stack.vllm, how)
        try:
            stack.until("the circuit is open", stack.circuits)
            with Fleet(stack.url, MODEL, 4) as fresh:      # the others may wait on what is frozen
                answered(fresh, 40)
            assert stack.status().weights[MODEL] == 100
        finally:
            stack.thaw(stack.vllm, how)
        stack.until("the circuit is closed", lambda: not stack.circuits())
        before = stack.failovers()
        answered(fleet, 40)
        assert stack.failovers() <= before + 4
    counted(fresh)
    counted(fleet)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_engine_that_is_killed_under_load(stack: PlainStack, number: int) -> None:
    with Fleet(stack.url, MODEL, 12) as fleet:
        answered(fleet, 40)
        before = stack.failovers()
        stack.kill(stack.vllm, number)
        stack.until("answers of Ollama", lambda: stack.failovers() > before)
        answered(fleet, 200)
        stack.until("Docker starts it again", lambda: stack.ask("/side/vllm/v1/models") is not None)
        answered(fleet, 40)
    counted(fleet, allowed=12)


def test_an_engine_core_that_dies_before_and_in_the_middle_of_answers(stack: PlainStack) -> None:
    with Fleet(stack.url, MODEL, 12) as fleet:
        answered(fleet, 40)
        before = stack.failovers()
        (stack.faults / "die").touch()
        stack.until("answers of Ollama", lambda: stack.failovers() > before)
        answered(fleet, 100)
        (stack.faults / "die").unlink()
        answered(fleet, 40)
    counted(fleet, allowed=12)


def test_an_overloaded_engine(stack: PlainStack) -> None:
    with Fleet(stack.url, MODEL, 8) as fleet:
        answered(fleet, 20)
        before = stack.failovers()
        (stack.faults / "503").touch()
        stack.until("answers of Ollama", lambda: stack.failovers() > before + 20)
        (stack.faults / "503").unlink()
        answered(fleet, 40)
    counted(fleet)
    assert stack.status().weights[MODEL] == 100


def test_ollama_killed_while_both_sides_answer(stack: PlainStack) -> None:
    stack.weight(50)
    with Fleet(stack.url, MODEL, 12) as fleet:
        answered(fleet, 60)
        stack.kill("ollama", signal.SIGKILL)
        answered(fleet, 150)
        stack.until("Docker starts it again", lambda: stack.ask("/side/ollama/api/version") is not None)
        answered(fleet, 60)
    counted(fleet, allowed=12)
    assert stack.failovers() > 0


def test_an_adapter_that_is_killed(stack: PlainStack) -> None:
    with Fleet(stack.url, MODEL, 12) as fleet:
        answered(fleet, 40)
        before = stack.failovers()
        stack.kill("adapter", signal.SIGKILL)
        stack.until("answers of Ollama", lambda: stack.failovers() > before)
        answered(fleet, 200)
    counted(fleet, allowed=12)


def test_the_gateway_is_reloaded_under_200_streams(stack: PlainStack) -> None:
    with Fleet(stack.url, MODEL, 200, tokens=40) as fleet:
        answered(fleet, 200)
        for _ in range(3):
            stack.docker("kill", "-s", "HUP", stack.container("gateway"))
            answered(fleet, 100)
    counted(fleet)


def test_the_gateway_is_restarted_under_200_streams(stack: PlainStack) -> None:
    """Who comes while nobody listens is refused, and told so; what had begun is finished."""
    with Fleet(stack.url, MODEL, 200, tokens=40, pause_s=0.05) as fleet:
        answered(fleet, 200)
        stack.docker("restart", "-t", "60", stack.container("gateway"))
        stack.until("it answers", lambda: stack.ask("/control/status") is not None)
        answered(fleet, 200)
    counted(fleet, 0, "refused")
    assert stack.status().weights[MODEL] == 100


@pytest.mark.parametrize("side", ["vllm", "ollama"])
def test_an_engine_that_comes_back_with_another_address(stack: PlainStack, side: str) -> None:
    stack.weight(50)
    service = stack.vllm if side == "vllm" else "ollama"
    network = f"migrate-{stack.name}_default"
    form = f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}'
    old = stack.docker("inspect", "--format", form, stack.container(service))
    with Fleet(stack.url, MODEL, 8) as fleet:
        answered(fleet, 40)
        stack.docker("rm", "-f", stack.container(service))
        # Somebody else takes the address, which is one of the lowest that are free, and answers nothing there.
        words = ("run", "-d", "--network", network, "--entrypoint", "sleep", "migrate/python:dev", "600")
        keepers = [stack.docker(*words)]
        while stack.docker("inspect", "--format", form, keepers[-1]) != old and len(keepers) < 20:
            keepers.append(stack.docker(*words))
        try:
            answered(fleet, 40)
            stack.compose("up", "-d", service)
            stack.until("it is asked again", lambda: stack.ask(f"/side/{side}/v1/models") is not None)
            assert stack.docker("inspect", "--format", form, stack.container(service)) != old
            answered(fleet, 60)
        finally:
            stack.docker("rm", "-f", *keepers)
    counted(fleet, allowed=8)


def test_a_guard_that_is_killed_leaves_everything_as_it_was(stack: PlainStack) -> None:
    with Fleet(stack.url, MODEL, 4) as fleet:
        answered(fleet, 20)
        stack.kill("guard", signal.SIGKILL)
        answered(fleet, 40)
    counted(fleet)
    assert stack.status().weights[MODEL] == 100
