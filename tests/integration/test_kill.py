"""`kill -9` at any moment: running the same command again ends in the same state, and no client notices.

KILL_MOMENTS: how many moments for each command (default 2, as a sample). KILL_SEED: which.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from stage import Command, Stage

from demo.scene import ENGINE, MODEL

SEED = int(os.environ.get("KILL_SEED", "5"))
SAMPLE = int(os.environ.get("KILL_MOMENTS", "2"))
FULL = 10
pytestmark = [pytest.mark.docker, pytest.mark.staged]
# The steps of `up`, and how long a moment within each may lie after its beginning, in seconds.
UP = {
    "write-files": 1, "start-ollama": 5, "start-service adapter": 4, "take-over": 20, "start-service guard": 4,
    "start-engine": 8, "check-health": 1, "check-parity": 4, "check-load": 4,
}
# How long the others take at least, in seconds.
DOWN, CUTOVER = 10, 6.5
LEFTOVERS = ("of the swap", "temporary", "rules", "swap volume")


def up_moments(count: int) -> list[tuple[str, float]]:
    """Every other one inside the take-over, the others spread over all steps."""
    rng = random.Random(SEED)
    others = rng.sample([step for step in UP if step != "take-over"], k=min(count // 2, len(UP) - 1))
    steps = [*others, *["take-over"] * (count - len(others))]
    # Stratified, so that few moments lie apart too.
    inside = [step for step in steps if step == "take-over"]
    at = {index: (index + rng.random()) / len(inside) for index in range(len(inside))}
    chosen = [(step, rng.random() * UP[step]) for step in others]
    chosen += [("take-over", at[index] * UP["take-over"]) for index in range(len(inside))]
    rng.shuffle(chosen)
    return chosen


def cutover_moments(count: int) -> list[float]:
    rng = random.Random(SEED)
    return [(index + rng.random()) / count * CUTOVER for index in range(count)]


def kill_at(command: Command, seconds: float, rng: random.Random) -> bool:
    """Kill -9 after some seconds, with or without the docker command it is running; then a pause, or none."""
    time.sleep(seconds)
    at_work = command.kill(group=rng.random() < 0.3)
    time.sleep(rng.choice((0.0, 0.2, 2.0)))
    return at_work


@pytest.fixture(scope="module", autouse=True)
def planned(stage: Stage) -> Iterator[None]:
    stage.plan()
    with stage.people():
        yield


def kill_up(stage: Stage, moments: list[tuple[str, float]]) -> None:
    """Leaves the stack up after the last one."""
    rng = random.Random(SEED)
    stage.migrate("down", "--yes")
    before = stage.picture()
    for number, (step, seconds) in enumerate(moments):
        if number:
            tear_down(stage, before, rng)
        command = stage.start("up", "--yes")
        command.wait_for(step)
        hit = kill_at(command, seconds, rng)
        print(f"up: {'killed' if hit else 'was done'} {seconds:.1f} s into {step}")
        again = stage.migrate("up", "--yes")
        assert "every route is proven" in again.out
        expected(stage, stage.picture(), "proven")
        assert stage.lost() == []


def tear_down(stage: Stage, before: dict[str, Any], rng: random.Random) -> None:
    """Run `down`, killed on the way every other time: it ends in the same state as well."""
    if rng.random() < 0.5:
        hit = kill_at(stage.start("down", "--yes"), rng.random() * DOWN, rng)
        print(f"down: {'killed' if hit else 'was done'}")
    stage.migrate("down", "--yes")
    after = stage.picture()
    same = ("answers", "original", *LEFTOVERS)
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert after["containers"] == []


def expected(stage: Stage, picture: dict[str, Any], route: str) -> None:
    scene = stage.scene
    assert picture["stack"] == "taken over"
    assert picture["routes"] == {MODEL: route}
    assert set(picture["engines"].values()) == {"ready"}
    assert picture["running"] == ([], None)
    assert picture["answers"] == "final"
    names = [name.removeprefix(f"{scene.project}-").removesuffix("-1") for name, *_ in picture["containers"]]
    assert names == ["adapter", "gateway", "guard", "ollama", f"vllm-{ENGINE}"]
    assert {(running, restart) for _, running, restart, *_ in picture["containers"]} == {(True, "unless-stopped")}
    gateway = next(one for one in picture["containers"] if one[0] == f"{scene.project}-gateway-1")
    outer = dict(gateway[3])[scene.network]
    assert {"ollama", scene.ollama} <= set(outer)
    (original,) = picture["original"]
    assert original[:3] == (f"{scene.ollama}-before-migrate", False, "no")
    assert [picture[name] for name in LEFTOVERS] == [[], None, [], False]


def kill_cutover(stage: Stage, moments: list[float]) -> None:
    rng, hits = random.Random(SEED), 0
    for seconds in moments:
        command = stage.start("cutover", "--yes")
        hit = kill_at(command, seconds, rng)
        hits += hit
        print(f"cutover: {'killed' if hit else 'was done'} after {seconds:.1f} s at {stage.weight():g} %")
        stage.migrate("cutover", "--yes")
        assert stage.weight() == 100
        expected(stage, stage.picture(), "cut over")
        stage.migrate("rollback")
        assert stage.weight() == 0
        assert stage.lost() == []
    assert hits > len(moments) / 2


def test_up_killed_in_the_take_over_and_never_run_again(stage: Stage) -> None:
    """Whoever gives up after that gets everything back, too."""
    command = stage.start("up", "--yes")
    command.wait_for("starting the new one")
    kill_at(command, 0, random.Random(SEED))
    stage.migrate("down", "--yes")
    picture = stage.picture()
    assert (picture["stack"], picture["answers"], picture["containers"]) == ("restored", "ollama", [])
    assert [picture[name] for name in LEFTOVERS] == [[], None, [], False]
    assert stage.lost() == []


def test_up_killed_and_run_again(stage: Stage) -> None:
    kill_up(stage, up_moments(SAMPLE))


def test_cutover_killed_and_run_again(stage: Stage) -> None:
    stage.migrate("up", "--yes")
    kill_cutover(stage, cutover_moments(SAMPLE))
    stage.migrate("down", "--yes")


@pytest.mark.full
@pytest.mark.timeout(2400)
def test_up_killed_at_ten_moments(stage: Stage) -> None:
    kill_up(stage, up_moments(FULL))


@pytest.mark.full
@pytest.mark.timeout(2400)
def test_cutover_killed_at_ten_moments(stage: Stage) -> None:
    stage.migrate("up", "--yes")
    kill_cutover(stage, cutover_moments(FULL))
    stage.migrate("down", "--yes")
