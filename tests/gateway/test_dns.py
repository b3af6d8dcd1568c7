"""Names that are resolved late, slowly or not at all: the gateway starts, answers in time and recovers by itself."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from gateway_bench import chat
from gateway_fakes import Fake, Loop
from gateway_harness import ROUTE, Nginx, Ports

pytestmark = pytest.mark.docker


class Dns(asyncio.DatagramProtocol):
    """A name server on loopback. `mute`: it says nothing; `late_s`: how long it takes; `known`: names it has."""

    def __init__(self, port: int, loop: Loop) -> None:
        self.port, self.loop = port, loop
        self.mute, self.late_s, self.known = False, 0.0, {"ollama.test", "engine.test"}
        self.asked = 0
        self.transport: asyncio.DatagramTransport | None = None

    def start(self) -> None:
        async def begin() -> None:
            where = {"local_addr": ("127.0.0.1", self.port), "family": socket.AF_INET}
            await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, **where)

        self.loop.call(begin())

    def stop(self) -> None:
        if self.transport:
            self.loop.loop.call_soon_threadsafe(self.transport.close)
            self.transport = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.asked += 1
        if not self.mute:
            asyncio.get_running_loop().call_later(self.late_s, self._answer, data, address)

    def _answer(self, data: bytes, address: tuple[str, int]) -> None:
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode())
            at += 1 + data[at]
        question = data[12 : at + 5]
        found = ".".join(labels) in self.known and data[at + 1 : at + 3] == b"\0\1"
        head = data[:2] + struct.pack(">HHHHH", 0x8180 if found else 0x8183, 1, int(found), 0, 0)
        record = b"\xc0\x0c" + struct.pack(">HHIH4s", 1, 1, 1, 4, socket.inet_aton("127.0.0.1")) if found else b""
        if self.transport:
            self.transport.sendto(head + question + record, address)


class Named(Nginx):
    """A gateway whose upstreams have names."""

    def _addresses(self) -> dict:
        plain, p = super()._addresses(), self.ports
        return plain | {
            "resolver": f"127.0.0.1:{p.base + 30}",
            "ollama": f"ollama.test:{p.ollama}",
            "engines": plain["engines"] | {"one": f"engine.test:{p.engine}"},
        }


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    nginx = Named(tmp_path, Ports(21700))
    yield nginx
    nginx.remove()


@pytest.fixture
def dns(nginx: Nginx, loop: Loop) -> Iterator[Dns]:
    dns = Dns(nginx.ports.base + 30, loop)
    yield dns
    dns.stop()


@pytest.fixture
def upstreams(nginx: Nginx, loop: Loop) -> Iterator[None]:
    fakes = [Fake("ollama", nginx.ports.ollama, loop), Fake("engine", nginx.ports.engine, loop)]
    for fake in fakes:
        fake.start()
    yield
    for fake in fakes:
        fake.stop()


def ask(nginx: Nginx) -> str:
    answer = httpx.post(f"{nginx.public}/v1/chat/completions", json=chat(), timeout=30)
    return answer.json()["from"] if answer.status_code == 200 else str(answer.status_code)


def until(said: Callable[[], str], expected: str) -> None:
    deadline = time.monotonic() + 30
    while (last := said()) != expected:
        assert time.monotonic() < deadline, f"{last!r} instead of {expected!r}"
        time.sleep(0.1)


@pytest.mark.parametrize("how", ["away", "mute", "unknown"])
def test_it_starts_without_names_and_recovers(nginx: Nginx, dns: Dns, upstreams: None, how: str) -> None:
    dns.mute = how == "mute"
    dns.known = set() if how == "unknown" else dns.known
    if how != "away":
        dns.start()
    nginx.start()
    answer = httpx.post(f"{nginx.public}/v1/chat/completions", json=chat(), timeout=30)
    assert answer.status_code == 502
    assert answer.json()["error"]["message"]
    assert nginx.status()["weights"][ROUTE] == 0
    dns.mute, dns.known = False, {"ollama.test", "engine.test"}
    if how == "away":
        dns.start()
    until(lambda: ask(nginx), "ollama")
    assert nginx.weights({ROUTE: 100}).status_code == 200
    until(lambda: ask(nginx), "engine")


@pytest.mark.parametrize("how", ["slow", "mute", "away"])
def test_a_name_server_that_fails_later_costs_no_request(
    nginx: Nginx, dns: Dns, upstreams: None, how: str
) -> None:
    dns.start()
    nginx.start()
    until(lambda: ask(nginx), "ollama")
    nginx.weights({ROUTE: 100})
    until(lambda: ask(nginx), "engine")
    dns.late_s, dns.mute = (1.0 if how == "slow" else 0.0), how == "mute"
    if how == "away":
        dns.stop()
    asked = dns.asked
    end = time.monotonic() + 5    # names are asked for again every second
    while time.monotonic() < end:
        assert ask(nginx) == "engine"
        time.sleep(0.02)
    assert how == "away" or dns.asked > asked
