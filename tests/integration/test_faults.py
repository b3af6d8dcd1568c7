"""What goes wrong, goes wrong politely: clients are answered, the words are clear, and the same command goes on.

The tests share one migration and run in their order: before the take-over, on the way up, and under traffic.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from docker_proxy import DockerProxy
from stage import Stage

from demo.scene import ENGINE, MODEL
from orchestrator.clients.docker import RunSpec

pytestmark = [pytest.mark.docker, pytest.mark.staged]


@pytest.fixture(scope="module", autouse=True)
def talking(stage: Stage) -> Iterator[None]:
    """Clients talk from the first test to the last."""
    stage.plan()
    with stage.people():
        yield


@pytest.fixture(autouse=True)
def nothing_lost(stage: Stage) -> Iterator[None]:
    yield
    assert stage.lost() == []


# -- before the take-over -----------------------------------------------------------------------------------


def test_control_port_taken_is_said_before_anything_is_touched(stage: Stage) -> None:
    before = stage.picture()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", stage.scene.control_port))
        other.listen()
        done = stage.migrate("up", "--yes", code=1)
    done.assert_clean()
    assert f"{stage.scene.control_port}" in done.err
    assert f"(pid {os.getpid()})" in done.err
    assert stage.picture() | {"running": None} == before | {"running": None}


def test_the_port_of_something_else_is_not_taken(stage: Stage) -> None:
    """The address of a container that is no Ollama: not planned for, and not taken by `up` either."""
    name, port = f"{stage.scene.name}-other", stage.scene.port + 200
    stage.scene.docker.run(RunSpec(
        "migrate/python:dev", ("-m", "http.server", "8000"), name=name, entrypoint="python3",
        labels=stage.scene.label, publish=[("127.0.0.1", port, 8000)],
    ))
    try:
        done = stage.migrate("plan", "--stack", "other", "--ollama", f"http://127.0.0.1:{port}", code=1)
        done.assert_clean()
        assert not (stage.scene.stack.parent / "other" / "migrate.yaml").exists()
        stage.edit(lambda spec: spec["gateway"].update(port=port))
        done = stage.migrate("up", "--yes", code=2)
        done.assert_clean()
        assert str(port) in done.err
    finally:
        stage.edit(lambda spec: spec["gateway"].update(port=stage.scene.port))
        stage.scene.docker.remove(name)
    assert stage.picture()["answers"] == "ollama"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    mounted = subprocess.run(mount, check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as filler, suppress(OSError):
        while filler.write(bytes(4096)):
            continue


def test_full_disk_stops_before_a_step_that_cannot_be_written_down(stage: Stage, small_disk: Path) -> None:
    before = stage.picture()
    folder = small_disk / stage.scene.name
    shutil.copytree(stage.scene.stack, folder)
    elsewhere = {"MIGRATE_STACKS": str(small_disk)}
    fill(small_disk / "filler")
    done = stage.migrate("up", "--yes", code=1, **elsewhere)
    done.assert_clean()
    assert "cannot write" in done.err
    assert stage.picture() == before


# -- on the way up ------------------------------------------------------------------------------------------


def test_ctrl_c_stops_at_a_safe_point_and_up_goes_on(stage: Stage) -> None:
    command = stage.start("up", "--yes")
    command.wait_for("start-ollama")
    command.ctrl_c()
    done = command.wait()
    assert done.code == 130
    done.assert_clean()
    command = stage.start("up", "--yes")
    command.wait_for("start-service adapter")
    command.ctrl_c()
    command.wait_for("Ctrl-C again")
    command.ctrl_c()
    done = command.wait()
    assert done.code == 130
    done.assert_clean()


def test_docker_that_goes_away_in_the_middle_of_the_take_over(stage: Stage, tmp_path: Path) -> None:
    """Neither forth nor back is possible then; the clients are answered all the same."""
    with DockerProxy(tmp_path / "docker.sock") as docker:
        command = stage.start("up", "--yes", DOCKER_HOST=docker.url)
        command.wait_for("waiting for the streams of the old one")
        docker.cut()
        done = command.wait()
    done.assert_clean()
    assert done.code == 5
    assert stage.picture()["answers"] in ("swap", "ollama", "final")


def test_sigterm_in_the_take_over_waits_for_its_end(stage: Stage) -> None:
    command = stage.start("up", "--yes")
    command.wait_for("take-over")
    command.signal(signal.SIGTERM)
    done = command.wait()
    assert done.code == 143
    done.assert_clean()
    # What was confirmed is carried through: the port is not left half-way.
    picture = stage.picture()
    assert (picture["stack"], picture["answers"], picture["of the swap"]) == ("taken over", "final", [])


def wrong_flag(spec: dict[str, Any]) -> None:
    spec["engines"][ENGINE]["extra_args"] = ["--no-such-flag"]


def no_memory(spec: dict[str, Any]) -> None:
    spec["engines"][ENGINE]["max_model_len"] = 131072


def test_a_flag_that_vllm_does_not_know_is_refused_before_anything(stage: Stage) -> None:
    kept = (stage.scene.stack / "migrate.yaml").read_text(encoding="utf-8")
    before = stage.picture()
    stage.edit(wrong_flag)
    try:
        done = stage.migrate("up", "--yes", code=2)
    finally:
        (stage.scene.stack / "migrate.yaml").write_text(kept, encoding="utf-8")
    done.assert_clean()
    assert "--no-such-flag" in done.err
    assert stage.picture() == before


def test_engine_that_does_not_start_is_explained_and_stopped(stage: Stage) -> None:
    kept = (stage.scene.stack / "migrate.yaml").read_text(encoding="utf-8")
    stage.edit(no_memory)
    try:
        done = stage.migrate("up", "--yes", code=1)
    finally:
        (stage.scene.stack / "migrate.yaml").write_text(kept, encoding="utf-8")
    done.assert_clean()
    assert "memory" in done.err
    engine = stage.service(f"vllm-{ENGINE}")
    assert engine is not None
    assert engine.status == "exited"
    assert stage.picture()["answers"] == "final"


def test_docker_that_goes_away_in_the_middle(stage: Stage, tmp_path: Path) -> None:
    with DockerProxy(tmp_path / "docker.sock") as docker:
        command = stage.start("up", "--yes", DOCKER_HOST=docker.url)
        command.wait_for("start-engine")
        docker.cut()
        done = command.wait()
    done.assert_clean()
    assert done.code in (1, 5)
    assert "daemon does not answer" in done.err
    assert "every route is proven" in stage.migrate("up", "--yes").out
    assert stage.status()["routes"][0]["state"] == "proven"


# -- under traffic ------------------------------------------------------------------------------------------


def test_guard_looks_more_often(stage: Stage) -> None:
    """A shorter wait for what follows: the guard reads its file when it starts."""
    path = stage.scene.stack / "guard" / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(settings | {"interval_s": 1, "timeout_s": 3}), encoding="utf-8")
    stage.scene.docker._cli.docker("restart", f"{stage.scene.project}-guard-1")
    stage.until("the guard is up", lambda: (one := stage.service("guard")) is not None and one.running)


def test_abandoned_cutover_goes_back_to_what_was_approved(stage: Stage) -> None:
    stage.migrate("cutover", "--to", "10", "--yes")
    command = stage.start("cutover", "--yes")
    stage.until("50 %", lambda: stage.weight() == 50)
    command.kill(group=True)
    stage.until("back at 10 %", lambda: stage.weight() == 10)
    assert stage.door().lease is None
    stage.migrate("rollback")


def test_rollback_while_a_cutover_runs(stage: Stage) -> None:
    command = stage.start("cutover", "--yes")
    stage.until("10 %", lambda: stage.weight() > 0)
    stage.migrate("rollback")
    assert stage.weight() == 0
    done = command.wait()
    assert done.code == 4
    done.assert_clean()
    assert stage.weight() == 0
    assert stage.status()["routes"][0]["state"] == "rolled back"


@contextmanager
def thresholds(stage: Stage, **values: float) -> Iterator[None]:
    kept = (stage.scene.stack / "migrate.yaml").read_text(encoding="utf-8")
    stage.edit(lambda spec: spec["cutover"]["thresholds"].update(values))
    yield
    (stage.scene.stack / "migrate.yaml").write_text(kept, encoding="utf-8")


def test_broken_threshold_goes_back_by_itself(stage: Stage) -> None:
    with thresholds(stage, ttft_p95=0.0001):
        done = stage.migrate("cutover", "--yes", code=8)
    done.assert_clean()
    assert "TTFT" in done.err
    assert stage.weight() == 0
    assert stage.door().lease is None


def test_engine_that_is_overloaded_costs_no_answer(stage: Stage) -> None:
    stage.migrate("cutover", "--yes")
    assert stage.weight() == 100
    before = stage.door().failovers.get(MODEL, 0)
    with stage.fault("503"):
        stage.until("answers from Ollama instead", lambda: stage.door().failovers.get(MODEL, 0) >= before + 5)
    assert stage.weight() == 100    # busy is not broken


def test_engine_that_hangs_loses_its_traffic(stage: Stage) -> None:
    stage.migrate("cutover", "--yes")
    with stage.fault("hang"):
        stage.until("the guard lowers the weight", lambda: stage.weight() == 0, seconds=120)
        asked = len(stage.scene.answers())
        assert stage.status()["routes"][0]["weight"] == 0
    stage.until("answers again", lambda: len(stage.scene.answers()) > asked + 5)


def test_engine_that_dies_loses_only_what_it_was_answering(stage: Stage) -> None:
    stage.migrate("cutover", "--yes")
    assert stage.weight() == 100
    before, at = stage.door().failovers.get(MODEL, 0), time.time()
    with stage.fault("die"):
        stage.until("answers from Ollama instead", lambda: stage.door().failovers.get(MODEL, 0) > before)
        stage.until("the guard lowers the weight", lambda: stage.weight() == 0, seconds=120)
        asked = len(stage.scene.answers())
        stage.until("answers of Ollama", lambda: len(stage.scene.answers()) > asked + 5)
    # Lost is only what was running on the part that died.
    lost = stage.lost()
    assert all(one["at"] < at + 1 and one["end"] > at - 1 for one in lost), lost
    stage.forgive(lost)


def test_engine_stopped_on_purpose_is_no_complaint(stage: Stage) -> None:
    stage.migrate("rollback", "--stop")
    stage.migrate("status", "--exit-code")
    assert stage.status()["routes"][0]["health"] == "stopped"
    assert "gateway" in stage.migrate("logs", "no-such-service", code=2).err


def test_down_gives_everything_back(stage: Stage) -> None:
    stage.migrate("down", "--yes")
    picture = stage.picture()
    assert (picture["answers"], picture["containers"], picture["rules"]) == ("ollama", [], [])
    (original,) = picture["original"]
    assert original[:3] == (stage.scene.ollama, True, "unless-stopped")
