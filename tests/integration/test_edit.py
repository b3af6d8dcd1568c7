"""Editing what serves, under traffic: only the containers concerned are made anew, and nobody loses an answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from stage import Stage

from demo.scene import ENGINE, MODEL

pytestmark = [pytest.mark.docker, pytest.mark.staged]
SERVICE = f"vllm-{ENGINE}"
OTHERS = ("adapter", "gateway", "guard", "ollama")


@pytest.fixture(scope="module", autouse=True)
def serving(stage: Stage) -> Iterator[None]:
    """Everything is on vLLM, and clients talk from the first test to the last."""
    stage.plan()
    with stage.people():
        stage.migrate("up", "--yes")
        stage.migrate("cutover", "--yes")
        assert stage.weight() == 100
        yield


@pytest.fixture(autouse=True)
def nothing_lost(stage: Stage) -> Iterator[None]:
    yield
    assert stage.lost() == []


def set_engine(stage: Stage, **values: Any) -> None:
    stage.edit(lambda spec: spec["engines"][ENGINE].update(values))


def ids(stage: Stage, *services: str) -> dict[str, str]:
    return {name: one.id for name in services if (one := stage.service(name))}


def flag(stage: Stage, name: str) -> str:
    engine = stage.service(SERVICE)
    assert engine is not None
    assert engine.running
    return engine.command[engine.command.index(name) + 1]


def verdicts(stage: Stage) -> list[tuple[str, str]]:
    journal = stage.journal()
    found = [(one.subject, one.text) for one in journal.entries("verdict")]
    journal.close()
    return found


def test_nothing_edited_is_nothing_to_do(stage: Stage) -> None:
    before = ids(stage, SERVICE, *OTHERS)
    assert "nothing to do" in stage.migrate("up", "--dry-run").out
    stage.migrate("up", "--yes")
    assert ids(stage, SERVICE, *OTHERS) == before
    assert stage.weight() == 100


def test_max_num_seqs_at_100_percent(stage: Stage) -> None:
    others, engine, gates = ids(stage, *OTHERS), ids(stage, SERVICE), len(verdicts(stage))
    set_engine(stage, max_num_seqs=8)
    rendered = (stage.scene.stack / "compose.yaml").read_bytes()
    said = stage.plan().out
    assert (stage.scene.stack / "compose.yaml").read_bytes() == rendered
    steps = stage.migrate("up", "--dry-run").out.strip()
    assert f"{SERVICE} is made anew: max_num_seqs 16 -> 8" in steps
    assert steps in said
    done = stage.migrate("up", "--yes")
    assert f"100 % -> 0 %: Ollama answers while {SERVICE}" in done.err
    assert stage.weight() == 100
    assert flag(stage, "--max-num-seqs") == "8"
    assert ids(stage, *OTHERS) == others
    assert ids(stage, SERVICE) != engine
    gone_through = ("rendering", "contract", "parity", "load")
    again = {"health " + ENGINE: "pass", **{f"{check} {MODEL}": "pass" for check in gone_through}}
    # On a busy machine the load test may have no verdict at first.
    assert dict(verdicts(stage)[gates:]) == again
    assert stage.status()["routes"][0]["state"] == "cut over"
    answered = stage.door().counts[MODEL]["vllm"]["complete"]
    stage.until("vLLM answers again", lambda: stage.door().counts[MODEL]["vllm"]["complete"] > answered + 5)


def test_an_engine_that_cannot_start_is_put_back(stage: Stage) -> None:
    others = ids(stage, *OTHERS)
    kept = (stage.scene.stack / "migrate.yaml").read_text(encoding="utf-8")
    set_engine(stage, max_model_len=131072)
    done = stage.migrate("up", "--yes", code=1)
    done.assert_clean()
    assert "memory" in done.err
    assert f"What ran before serves again: {MODEL} at the weight of before" in done.err
    assert (stage.weight(), flag(stage, "--max-model-len"), flag(stage, "--max-num-seqs")) == (100, "2048", "8")
    assert ids(stage, *OTHERS) == others
    assert stage.status()["routes"][0]["state"] == "cut over"
    (stage.scene.stack / "migrate.yaml").write_text(kept, encoding="utf-8")
    assert "nothing to do" in stage.migrate("up", "--dry-run").out


def test_killed_while_the_engine_starts_it_goes_on(stage: Stage) -> None:
    set_engine(stage, max_num_seqs=12)
    command = stage.start("up", "--yes")
    command.wait_for("recreate-engine")
    command.kill(group=True)
    assert stage.weight() == 0
    assert "goes on with the edit" in stage.status()["next"]
    stage.migrate("up", "--yes")
    assert (stage.weight(), flag(stage, "--max-num-seqs")) == (100, "12")


def test_rolled_back_in_the_middle_it_stays_on_ollama(stage: Stage) -> None:
    set_engine(stage, max_num_seqs=4)
    command = stage.start("up", "--yes")
    command.wait_for("recreate-engine")
    stage.migrate("rollback")
    done = command.wait()
    assert done.code == 0
    assert (stage.weight(), flag(stage, "--max-num-seqs")) == (0, "4")
    stage.migrate("cutover", "--yes")


def test_the_port_is_refused_with_a_way(stage: Stage) -> None:
    before = stage.picture()
    stage.edit(lambda spec: spec["gateway"].update(control_port=stage.scene.control_port + 7))
    done = stage.migrate("up", "--yes", code=4)
    done.assert_clean()
    assert "rollback --restore" in done.err
    assert stage.migrate("status", "--json").code == 0
    assert stage.picture() == before
    stage.migrate("rollback")       # the door is where it was, whatever the file says
    assert stage.weight() == 0
    stage.migrate("down", "--yes")
    assert stage.picture()["answers"] == "ollama"
