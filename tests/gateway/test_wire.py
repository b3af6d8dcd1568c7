"""What HTTP allows, what it forbids, and who takes their time: raw bytes to the real nginx."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from gateway_bench import Bench, chat
from gateway_harness import ROUTE, TOKEN
from gateway_surface import Doors, doors, raw

pytestmark = pytest.mark.docker

BODY = json.dumps(chat()).encode()
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
LENGTH = b"Content-Length: %d\r\n" % len(BODY)


@pytest.fixture(scope="module")
def shared(shared_bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    patience = {"seconds": 2, "rate": 60_000_000}
    with doors(tmp_path_factory.mktemp("wire"), shared_bench, 21550, {"patience": patience}) as one:
        yield one


@pytest.fixture
def door(bench: Bench, shared: Doors) -> Doors:
    shared.weights({ROUTE: 100})
    return shared


def requests_seen(bench: Bench) -> int:
    return sum(len(fake.seen) for fake in bench.fakes)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (LENGTH + b"Transfer-Encoding: chunked\r\n", CHUNKED),
        (b"Transfer-Encoding: chunked\r\n" + LENGTH, CHUNKED),
        (LENGTH + LENGTH, BODY),
        (LENGTH + b"Content-Length: 5\r\n", BODY),
        (b"Content-Length: 5, 5\r\n", b"hello"),
        (b"Content-Length: +5\r\n", b"hello"),
        (b"Content-Length: 0x5\r\n", b"hello"),
        (b"Content-Length: -1\r\n", b""),
        (b"Content-Length: 99999999999999999999\r\n", b""),
        (b"Content-Length:\r\n", b""),
        (b"Transfer-Encoding: chunked, chunked\r\n", CHUNKED),
        (b"Transfer-Encoding: xchunked\r\n", CHUNKED),
        (b"Transfer-Encoding: identity, chunked\r\n", CHUNKED),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", CHUNKED),
        (b"Transfer-Encoding: chunked\r\n", b"zz\r\nhello\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\n", b"ffffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        (b"Transfer-Encoding : chunked\r\n", CHUNKED),
        (b"Transfer-Encoding\t: chunked\r\n" + LENGTH, BODY),
        (b" Content-Length: 5\r\n", b"hello"),
        (b"X: y\r\n Content-Length: 5\r\n", b"hello"),
        (b"X: a\0b\r\n" + LENGTH, BODY),
        (b"Host: second\r\n" + LENGTH, BODY),
    ],
)  # fmt: skip
def test_what_could_be_read_two_ways_is_refused(bench: Bench, door: Doors, head: bytes, body: bytes) -> None:
    answer = raw(door.ports.public, CHAT + b"Connection: close\r\n" + head + b"\r\n" + body + b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n", wait=2)
    assert 400 <= status(answer) < 600
    assert requests_seen(bench) == 0


def test_header_names_that_only_look_like_framing(bench: Bench, door: Doors) -> None:
    odd = b"Content_Length: 3\r\nTransfer_Encoding: chunked\r\nX-Forwarded-Host: evil\r\n"
    answer = raw(door.ports.public, CHAT + odd + b"Connection: close\r\n" + LENGTH + b"\r\n" + BODY)
    assert status(answer) == 200
    assert bench.engine.seen[-1].body == BODY
    assert bench.engine.seen[-1].headers["Content-Length"] == str(len(BODY))
    assert "Transfer-Encoding" not in bench.engine.seen[-1].headers


def test_http_1_0(bench: Bench, door: Doors) -> None:
    answer = raw(door.ports.public, CHAT.replace(b"HTTP/1.1\r\nHost: x\r\n", b"HTTP/1.0\r\n") + LENGTH + b"\r\n" + BODY)
    assert status(answer) == 200
    assert b"chunked" not in answer
    assert answer.endswith(b'{"from": "engine", "bytes": %d}' % len(BODY))
    kept = CHAT.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Connection: keep-alive\r\n" + LENGTH + b"\r\n" + BODY
    assert raw(door.ports.public, kept + kept, wait=2).count(b'"from": "engine"') == 2


def test_requests_in_a_row_are_answered_in_order(bench: Bench, door: Doors) -> None:
    def ask(path: bytes, more: bytes = b"") -> bytes:
        return b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (path, more)

    text = CHAT + LENGTH + b"\r\n" + BODY + ask(b"/api/tags") + CHAT + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED
    answer = raw(door.ports.public, text + ask(b"/api/version", b"Connection: close\r\n"))
    assert [part.split(b'"')[0] for part in answer.split(b'"from": "')[1:]] == [b"engine", b"ollama", b"engine", b"ollama"]
    assert [seen.path for seen in bench.ollama.seen] == ["/api/tags", "/api/version"]


@pytest.mark.parametrize("door_", ["public", "openai"])
def test_a_client_that_waits_for_100_is_told_to_go_on(bench: Bench, door: Doors, door_: str) -> None:
    port = door.ports.public if door_ == "public" else door.ports.base + 20
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(CHAT + LENGTH + b"Expect: 100-continue\r\nConnection: close\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(BODY)
        assert b'"from": "engine"' in b"".join(iter(lambda: connection.recv(65536), b""))


def test_the_absolute_form(bench: Bench, door: Doors) -> None:
    text = CHAT.replace(b" /v1", b" http://other.example:80/v1") + LENGTH + b"Connection: close\r\n\r\n" + BODY
    assert b'"from": "engine"' in raw(door.ports.public, text)
    assert bench.engine.seen[-1].path == "/v1/chat/completions"
    answer = raw(door.ports.public, b"GET http://other.example/api/tags HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b'"from": "ollama"' in answer
    assert bench.ollama.seen[-1].path == "/api/tags"


def test_head_has_no_body(bench: Bench, door: Doors) -> None:
    for path in (b"/", b"/api/tags", b"/v1/models"):
        answer = raw(door.ports.public, b"HEAD %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path)
        assert status(answer) == 200
        assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PRI", "get", "\x00"])
def test_odd_methods_harm_nobody(bench: Bench, door: Doors, method: str) -> None:
    answer = raw(door.ports.public, f"{method} /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert status(answer) in {200, 400, 405, 501}
    assert not bench.engine.seen
    assert not bench.adapter.seen


@pytest.mark.parametrize("protocol", ["websocket", "h2c", "TLS/1.0"])
def test_no_connection_becomes_another_protocols(bench: Bench, door: Doors, protocol: str) -> None:
    more = f"Upgrade: {protocol}\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    for text in (CHAT + more.encode() + LENGTH + b"\r\n" + BODY, b"GET /v1/realtime HTTP/1.1\r\nHost: x\r\n" + more.encode() + b"\r\n"):
        answer = raw(door.ports.public, text, wait=1)
        assert status(answer) == 200
        assert b" 101 " not in answer
    for fake in (bench.engine, bench.ollama):
        assert "Upgrade" not in fake.seen[-1].headers
        assert fake.seen[-1].headers.get("Connection", "").lower() != "upgrade"


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 40_000 + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"a" * 30_000 + b"\r\n\r\n", 200),
        (b"GET /?" + b"a" * 30_000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", 505),
        (b"HELLO\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ],
)  # fmt: skip
def test_long_and_broken_heads(door: Doors, head: bytes, code: int) -> None:
    assert status(raw(door.ports.public, head, wait=2)) == code


@pytest.mark.parametrize("framing", [b"Content-Length: 3000000\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_large_body_that_trickles_is_given_up(bench: Bench, door: Doors, framing: bytes) -> None:
    """Patience is 2 s here, and the size at 60 MB/s: for an unknown size that of 64 MB."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", door.ports.public), timeout=60) as connection:
        connection.sendall(CHAT + framing + b"\r\n")
        stop = threading.Event()

        def trickle() -> None:
            while not stop.wait(0.1):
                try:
                    connection.sendall(b" " if b"Length" in framing else b"1\r\n \r\n")
                except OSError:
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        answer = connection.recv(65536)
        stop.set()
        thread.join()
    assert answer == b""  # closed, as nginx does when nothing comes at all
    assert time.monotonic() - began < 30
    assert requests_seen(bench) == 0
    assert door.chat().json()["from"] == "engine"


@pytest.mark.parametrize("size", [900_000, 1_200_000, 9_000_000])
def test_a_large_body_that_comes_is_taken(bench: Bench, door: Doors, size: int) -> None:
    body = json.dumps(chat(messages=[{"role": "user", "content": "x" * size}])).encode()

    def parts() -> Iterator[bytes]:
        for at in range(0, len(body), 300_000):
            yield body[at : at + 300_000]
            time.sleep(0.01)

    for content in (body, parts()):
        answer = httpx.post(f"{door.public}/v1/chat/completions", content=content, headers={"Content-Type": "application/json"}, timeout=30)
        assert answer.json() == {"from": "engine", "bytes": len(body)}


def test_a_client_that_leaves_in_its_body_leaves_nothing_behind(bench: Bench, door: Doors) -> None:
    for size in (b"100", b"3000000"):
        with socket.create_connection(("127.0.0.1", door.ports.public)) as connection:
            connection.sendall(CHAT + b"Content-Length: " + size + b'\r\n\r\n{"mod')
            time.sleep(0.05)
    deadline = time.monotonic() + 10
    while door.status()["live"] | {"by_route": {}} != {"ollama": 0, "vllm": 0, "by_route": {}}:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert requests_seen(bench) == 0


def test_the_token_is_nothing_at_the_public_doors(bench: Bench, door: Doors) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    for path in ("/control/status", "/control/weights", "/metrics", "/side/vllm/v1/chat/completions", "/health"):
        answer = httpx.post(door.public + path, json=chat(), headers=headers)
        assert answer.json()["from"] == "ollama"
        answer = httpx.post(door.openai + path, json=chat(), headers=headers)
        assert answer.status_code == (200 if path == "/health" else 404)
    assert not bench.engine.seen
