"""An engine with two replicas under traffic: one is added, one is killed, one is frozen, one goes again."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from stage import Stage

from demo.scene import ENGINE, MODEL
from orchestrator.clients.gateway import Replica

pytestmark = [pytest.mark.docker, pytest.mark.staged]
FIRST, SECOND = ENGINE, f"{ENGINE}-2"
SERVICES = (f"vllm-{FIRST}", f"vllm-{SECOND}")


@pytest.fixture(scope="module", autouse=True)
def serving(stage: Stage) -> Iterator[None]:
    """Both replicas serve everything, and clients talk from the first test to the last."""
    stage.plan()
    set_engine(stage, replicas=2)
    with stage.people():
        stage.migrate("up", "--yes")
        stage.migrate("cutover", "--yes")
        assert stage.weight() == 100
        yield


def set_engine(stage: Stage, **values: Any) -> None:
    stage.edit(lambda spec: spec["engines"][ENGINE].update(values))


def replicas(stage: Stage) -> dict[str, Replica]:
    return stage.door().replicas.get(ENGINE, {})


def answered(stage: Stage) -> dict[str, int]:
    return {name: one.counts.get(MODEL, {}).get("complete", 0) for name, one in replicas(stage).items()}


def test_both_are_proven_and_answer(stage: Stage) -> None:
    assert all((one := stage.service(name)) is not None and one.running for name in SERVICES)
    report = json.loads((stage.scene.stack / "report" / f"health-{ENGINE}.json").read_text(encoding="utf-8"))
    assert set(report["evidence"]["replicas"]) == {FIRST, SECOND}
    stage.until("answers of both", lambda: all(n > 5 for n in answered(stage).values()))
    assert stage.status()["routes"][0]["health"] == "2 of 2 healthy"
    assert stage.lost() == []


def test_one_that_is_killed_loses_only_what_it_was_answering(stage: Stage) -> None:
    before, failovers = answered(stage), stage.door().failovers.get(MODEL, 0)
    at = pid(stage, SERVICES[1])
    os.kill(at, signal.SIGKILL)     # Docker starts it again
    stage.until("answers of the other", lambda: answered(stage)[FIRST] > before[FIRST] + 20)
    stage.until("it is back", lambda: answered(stage)[SECOND] > before[SECOND] + 5, seconds=120)
    assert stage.weight() == 100
    assert stage.door().failovers.get(MODEL, 0) == failovers, "the other replica answered, not Ollama"
    lost = stage.lost()
    assert len(lost) <= 4, lost     # streams that had begun on it: one for each of the people at most
    stage.forgive(lost)


def test_one_that_freezes_is_taken_out_and_comes_back(stage: Stage) -> None:
    guard_looks_often(stage)
    container = stage.service(SERVICES[0])
    assert container is not None
    docker = stage.scene.docker._cli.docker
    docker("pause", container.id)
    try:
        stage.until("the guard takes it out", lambda: replicas(stage)[FIRST].by == "guard", seconds=120)
        before = answered(stage)[SECOND]
        stage.until("answers of the other", lambda: answered(stage)[SECOND] > before + 10)
        assert stage.weight() == 100
        assert f"replica {FIRST} gets no requests: the guard got no answer" in stage.migrate("status").out
    finally:
        docker("unpause", container.id)
    stage.until("it is back", lambda: replicas(stage)[FIRST].out == 0, seconds=120)
    before = answered(stage)[FIRST]
    stage.until("its answers", lambda: answered(stage)[FIRST] > before + 5)
    assert stage.lost() == []


def test_one_less_takes_its_container_away(stage: Stage) -> None:
    first = stage.service(SERVICES[0])
    set_engine(stage, replicas=1)
    stage.migrate("up", "--yes")
    assert stage.service(SERVICES[1]) is None
    left = stage.service(SERVICES[0])
    assert first is not None
    assert left is not None
    assert (left.id, left.running) == (first.id, True)
    assert replicas(stage) == {}
    assert stage.weight() == 100
    assert stage.lost() == []


def pid(stage: Stage, service: str) -> int:
    found = stage.service(service)
    assert found is not None
    return int(stage.scene.docker._cli.docker("inspect", "--format", "{{.State.Pid}}", found.id))


def guard_looks_often(stage: Stage) -> None:
    """A shorter wait: the guard follows its file."""
    path = stage.scene.stack / "guard" / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(settings | {"interval_s": 1, "timeout_s": 3}), encoding="utf-8")
