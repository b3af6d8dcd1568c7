"""Upstreams by name in a Docker network: absent at first, back with another address."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from gateway_bench import chat
from gateway_harness import PYTHON_IMAGE, ROUTE, Nginx, Ports, docker

pytestmark = pytest.mark.docker

SERVER = """
import http.server, sys
class Say(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(sys.argv[1])))
        self.end_headers()
        self.wfile.write(sys.argv[1].encode())
http.server.ThreadingHTTPServer(("", int(sys.argv[2])), Say).serve_forever()
"""


class Network:
    """A Docker network whose members come and go."""

    def __init__(self) -> None:
        self.name = f"migrate-gwtest-{uuid.uuid4().hex[:8]}"
        self.members: list[str] = []
        docker("network", "create", self.name)

    def serve(self, alias: str, says: str, port: int) -> str:
        container = f"{self.name}-{says}"
        docker("run", "-d", "--init", "--name", container, "--network", self.name, "--network-alias", alias,
               PYTHON_IMAGE, "python3", "-c", SERVER, says, str(port))  # fmt: skip
        self.members.append(container)
        return container

    def remove(self, *containers: str) -> None:
        docker("rm", "-f", *containers)

    def close(self) -> None:
        if self.members:
            self.remove(*self.members)
        docker("network", "rm", self.name)


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network()
    yield network
    network.close()


@pytest.fixture
def nginx(network: Network, tmp_path: Path) -> Iterator[Nginx]:
    nginx = Nginx(tmp_path, Ports(21200), network=network.name)
    try:
        nginx.start()
        yield nginx
        print(nginx.logs())
    finally:
        nginx.remove()


def until(said: Callable[[], str], expected: str) -> None:
    deadline = time.monotonic() + 20
    while said() != expected:
        assert time.monotonic() < deadline, f"{said()!r} instead of {expected!r}"
        time.sleep(0.1)


def test_members_come_go_and_move(network: Network, nginx: Nginx) -> None:
    def ask() -> str:
        answer = httpx.post(f"{nginx.public}/v1/chat/completions", json=chat(), timeout=30)
        return answer.text if answer.status_code == 200 else str(answer.status_code)

    assert ask() == "502"  # started although nothing it names exists
    network.serve("ollama", "ollama-1", 11434)
    until(ask, "ollama-1")
    assert nginx.weights({ROUTE: 100}).status_code == 200
    assert ask() == "ollama-1"
    engine = network.serve("vllm-one", "engine-1", 8000)
    until(ask, "engine-1")
    network.remove(engine)
    for _ in range(20):
        assert ask() == "ollama-1"  # not one failed answer while it is away
    squatter = network.serve("nobody", "squatter", 8000)  # likely takes the old address
    network.serve("vllm-one", "engine-2", 8000)
    until(ask, "engine-2")
    network.remove(squatter)
    assert ask() == "engine-2"


def test_the_first_request_after_a_start_finds_its_upstream(network: Network, nginx: Nginx) -> None:
    network.serve("ollama", "ollama-1", 11434)
    address = docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", nginx.container)

    def first_answer() -> str:
        deadline = time.monotonic() + 20
        with httpx.Client(timeout=5) as client:  # opening one takes longer than what this test looks for
            while time.monotonic() < deadline:
                try:
                    return client.get(f"http://{address}:11434/api/tags").text
                except httpx.TransportError:
                    time.sleep(0.0005)
        raise AssertionError("no answer")

    until(first_answer, "ollama-1")
    for _ in range(3):
        docker("kill", nginx.container)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(first_answer)
            docker("start", nginx.container)
            assert answer.result() == "ollama-1"
