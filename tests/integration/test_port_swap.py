"""The port swap on a real Docker Engine, while clients keep talking.

MIGRATE_TEST_PYTHON_IMAGE: an image with python3 and iptables. MIGRATE_TEST_KILLS: how often the helper is killed
(default 4, a multiple of 4). MIGRATE_TEST_SEED: when.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml
from swap_clients import Clients

from orchestrator.clients.docker import Docker, RunSpec
from orchestrator.clients.netfilter import Netfilter
from orchestrator.errors import MigrateError
from orchestrator.steps.swap_files import SwapFiles
from orchestrator.steps.swap_helper import follow, start
from orchestrator.steps.swap_plan import ComposeService, PlainContainer, SwapPlan, SwapResult, TempGateway
from orchestrator.steps.swap_probe import who
from orchestrator.steps.swap_temp import free_port

IMAGE = os.environ.get("MIGRATE_TEST_PYTHON_IMAGE", "migrate/python:dev")
SERVER = Path(__file__).with_name("swap_server.py")
pytestmark = pytest.mark.docker


@dataclass
class World:
    """An original on its port, and a Compose project whose gateway is to take it."""

    docker: Docker
    stack: str
    directory: Path
    port: int
    listen: tuple[str, ...]

    @property
    def original(self) -> PlainContainer:
        return PlainContainer(f"{self.stack}-ollama", f"{self.stack}-ollama-before-migrate", "always")

    @property
    def take_over(self) -> SwapPlan:
        gateway = ComposeService(
            f"migrate-{self.stack}", str(self.directory), (str(self.directory / "compose.yaml"),), "gateway"
        )
        temp = TempGateway(
            name=f"migrate-{self.stack}-swap",
            image=IMAGE,
            command=("python3", "/server.py"),
            env={"ROLE": "swap", "STACK": self.stack},
            mounts=((str(SERVER), "/server.py", True),),
            networks=((f"{self.stack}-net", ("ollama", self.original.name)),),
        )
        return SwapPlan(
            stack=self.stack, listen=self.listen, port=self.port, old=self.original, new=gateway, temp=temp,
            sidecar_image=IMAGE, drain_s=30, start_s=20, stop_grace_s=5,
        )  # fmt: skip

    @property
    def restore(self) -> SwapPlan:
        plan = self.take_over
        return replace(plan, old=plan.new, new=plan.old, serves="ollama")

    def swap(self, plan: SwapPlan) -> SwapResult:
        start(self.directory, plan)
        return follow(self.directory, lambda _: None)

    def assert_only(self, role: str) -> None:
        """The port is served by `role`, and nothing of the swap is left."""
        assert who("127.0.0.1", self.port, self.stack) == role
        assert Netfilter(self.docker, IMAGE, self.stack).rules() == []
        assert self.docker.find(self.take_over.temp.name) is None
        assert self.docker.containers(labels={"migrate.swap": f"migrate:{self.stack}"}) == []


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    listen = getattr(request, "param", ("127.0.0.1",))
    ip = "" if "0.0.0.0" in listen else listen[0]
    docker = Docker()
    if docker.version() is None or not docker.image_exists(IMAGE):
        pytest.fail(f"needs a Docker Engine with the image {IMAGE}")
    stack = f"swaptest-{uuid.uuid4().hex[:6]}"
    world = World(docker, stack, tmp_path, free_port(), listen)
    gateway = {
        "image": IMAGE, "command": ["python3", "/server.py"], "restart": "unless-stopped",
        "environment": {"ROLE": "final", "STACK": stack}, "volumes": [f"{SERVER}:/server.py:ro"],
        "ports": [f"{ip}:{world.port}:11434".lstrip(":")], "networks": {"outer": {"aliases": ["ollama"]}},
    }  # fmt: skip
    outer = {"name": f"{stack}-net", "external": True}
    (tmp_path / "compose.yaml").write_text(
        yaml.safe_dump({"services": {"gateway": gateway}, "networks": {"outer": outer}})
    )
    docker._cli.docker("network", "create", f"{stack}-net")
    docker.run(
        RunSpec(
            IMAGE, ("python3", "/server.py"), name=world.original.name, env={"ROLE": "ollama"}, restart="always",
            mounts=[(str(SERVER), "/server.py", True)], publish=[(ip, world.port, 11434)],
            network=f"{stack}-net", aliases=["ollama"],
        )
    )  # fmt: skip
    for _ in range(100):
        if who("127.0.0.1", world.port, stack) == "ollama":
            break
        time.sleep(0.1)
    yield world
    holder = SwapFiles(tmp_path).holder()
    if holder:
        os.kill(holder, signal.SIGKILL)
    Netfilter(docker, IMAGE, stack).remove()
    docker.compose(f"migrate-{stack}", tmp_path, [tmp_path / "compose.yaml"]).down()
    for name in (world.original.name, world.original.parked, world.take_over.temp.name):
        docker.remove(name)
    docker._cli.docker("network", "rm", f"{stack}-net")


def test_take_over_and_restore_lose_nothing(world: World) -> None:
    before = world.docker.inspect(world.original.name)
    with Clients(world.port) as clients:
        time.sleep(3)
        taken = world.swap(world.take_over)
        world.assert_only("final")
        time.sleep(1)
        given_back = world.swap(world.restore)
        world.assert_only("ollama")
        time.sleep(1)
    assert clients.failures == []
    assert {outcome for _, outcome in clients.outcomes} == {"complete"}
    assert min(clients.complete(server) for server in ("ollama", "swap", "final")) > 0
    for result in (taken, given_back):
        assert (result.outcome, result.mode, result.refused, result.cut) == ("moved", "redirect", 0, 0)
        assert result.waited_streams > 0
    after = world.docker.inspect(world.original.name)
    assert (after.id, after.restart, after.networks) == (before.id, "always", before.networks)


NEIGHBOUR = """
import collections, json, sys, threading, time, urllib.request
seen, failed, until = collections.Counter(), [], time.time() + float(sys.argv[2])
def ask():
    try:
        body = json.dumps({"seconds": 1}).encode()
        with urllib.request.urlopen(sys.argv[1] + "/api/generate", body, timeout=20) as answer:
            last = json.loads(answer.read().splitlines()[-1])
            seen[last["server"] if last["done"] else "truncated"] += 1
    except Exception as error:
        failed.append(repr(error))
threads = []
while time.time() < until:
    threads.append(threading.Thread(target=ask))
    threads[-1].start()
    time.sleep(0.1)
for thread in threads:
    thread.join()
print(json.dumps([seen, failed]))
"""


def neighbour(world: World, url: str, seconds: float, network: str) -> Callable[[], tuple[dict[str, int], list[str]]]:
    """A client in a container of its own; the function waits for it and returns (answers by server, failures)."""
    spec = RunSpec(IMAGE, ("-c", NEIGHBOUR, url, str(seconds)), entrypoint="python3", network=network)
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(world.docker.run_once(spec)))
    thread.start()

    def outcome() -> tuple[dict[str, int], list[str]]:
        thread.join()
        seen, failed = json.loads(found[0])
        return seen, failed

    return outcome


@pytest.mark.full
def test_neighbours_on_a_docker_network_are_not_cut_off(world: World) -> None:
    outcome = neighbour(world, "http://ollama:11434", 25, f"{world.stack}-net")
    time.sleep(2)
    for plan in (world.take_over, world.restore):
        result = world.swap(plan)
        assert (result.mode, result.cut) == ("redirect", 0)
    seen, failed = outcome()
    assert failed == []
    assert set(seen) == {"ollama", "swap", "final"}


@pytest.mark.full
@pytest.mark.parametrize("world", [("0.0.0.0",)], indirect=True, ids=["any address"])
def test_a_public_port_moves_for_other_machines_too(world: World) -> None:
    """A container on another network reaches the port through the host's address, as another machine would."""
    outcome = neighbour(world, f"http://{world.docker.gateway_address()}:{world.port}", 20, "bridge")
    with Clients(world.port, per_second=3, pools=1, seconds=(1, 1)) as clients:
        time.sleep(2)
        for plan in (world.take_over, world.restore):
            result = world.swap(plan)
            assert (result.mode, result.refused, result.cut) == ("redirect", 0, 0)
        seen, failed = outcome()
    assert failed == clients.failures == []
    assert set(seen) == {"ollama", "swap", "final"}


@pytest.mark.full
def test_killed_helper_is_continued_and_the_port_answered_all_along(world: World) -> None:
    rng = random.Random(int(os.environ.get("MIGRATE_TEST_SEED", "11")))
    kills = int(os.environ.get("MIGRATE_TEST_KILLS", "4"))
    with Clients(world.port, per_second=10, pools=3, seconds=(0.5, 1.5)) as clients:
        for plan, role in ((world.take_over, "final"), (world.restore, "ollama")) * max(1, kills // 4):
            for _ in range(2):
                start(world.directory, plan)
                time.sleep(rng.uniform(0.05, 5))
                holder = SwapFiles(world.directory).holder()
                if holder:
                    os.kill(holder, signal.SIGKILL)
                time.sleep(rng.uniform(0, 1))
            result = world.swap(plan)
            assert result.outcome == "moved"
            world.assert_only(role)
    assert clients.failures == []


def test_back_to_back_when_redirecting_is_forbidden(world: World) -> None:
    taken = world.swap(replace(world.take_over, redirect="never"))
    world.assert_only("final")
    assert (taken.outcome, taken.mode) == ("moved", "back-to-back")
    assert taken.gap_s < 2
    given_back = world.swap(replace(world.restore, redirect="never"))
    world.assert_only("ollama")
    assert given_back.gap_s < 2


@pytest.mark.full
def test_streams_that_outlast_the_wait_undo_the_swap(world: World) -> None:
    with Clients(world.port, per_second=2, pools=0, seconds=(12, 12)) as clients:
        time.sleep(1)
        with pytest.raises(MigrateError, match="still open after 2 s"):
            world.swap(replace(world.take_over, drain_s=2))
        time.sleep(11)
    world.assert_only("ollama")
    assert clients.failures == [] or {failure.split(":")[0] for failure in clients.failures} == {"swap"}
    assert clients.complete("ollama") > 0


def test_a_gateway_that_does_not_answer_gives_the_port_back(world: World) -> None:
    compose = world.directory / "compose.yaml"
    compose.write_text(compose.read_text().replace("/server.py\n", "/missing.py\n", 1))
    with Clients(world.port, per_second=5, pools=2, seconds=(0.5, 1)) as clients:
        with pytest.raises(MigrateError, match="stays where it was"):
            world.swap(replace(world.take_over, start_s=3))
        world.assert_only("ollama")
    assert clients.failures == []
    assert world.docker.inspect(world.original.name).restart == "always"
