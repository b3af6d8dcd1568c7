"""What flows through the adapter: one request becomes one, nobody's answer piles up, who leaves stops the engine."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from adapter_engine import ROUTE, FakeEngine, free_port, serve

MODEL = "llama3.1:8b"
REQUESTS: dict[str, dict[str, Any]] = {
    "/api/chat": {"messages": [{"role": "user", "content": "{}"}]},
    "/api/generate": {"prompt": "{}"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "{}"}]},
    "/v1/completions": {"prompt": "{}"},
    "/v1/responses": {"input": "{}"},
    "/v1/messages": {"messages": [{"role": "user", "content": "{}"}], "max_tokens": 1000},
}
STREAMS = [(path, stream) for path in REQUESTS for stream in (True, False)]


@dataclass
class Stage:
    port: int
    engine: FakeEngine

    @property
    def resident_mb(self) -> float:
        """Memory of the adapter's process."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if b"orchestrator.adapter.serve" in words and str(self.port).encode() in words:
                    pages = int((folder / "statm").read_text().split()[1])
                    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
            except OSError:
                continue
        raise AssertionError("no such process")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder, port = tmp_path_factory.mktemp("flow"), free_port()
    with FakeEngine(free_port()) as engine:
        routes = {MODEL: {**ROUTE, "url": engine.url}, "emb:latest": {**ROUTE, "url": engine.url, "served": "emb:latest",
                                                                     "capabilities": ["embedding"]}}  # fmt: skip
        (folder / "config.json").write_text(json.dumps({"routes": routes}))
        for _ in serve(folder / "config.json", port, folder / "log"):
            yield Stage(port, engine)


def body(path: str, words: str, *, stream: bool) -> bytes:
    return json.dumps({"model": MODEL, "stream": stream, **REQUESTS[path]}).replace("{}", words).encode()


@contextmanager
def asked(stage: Stage, path: str, words: str, *, stream: bool) -> Iterator[socket.socket]:
    """Send a request on a connection with a small buffer, and leave the answer to the test."""
    data = body(path, words, stream=stream)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", stage.port))
        connection.sendall(head + data)
        yield connection


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("path", "stream"), STREAMS)
def test_one_request_becomes_one(stage: Stage, path: str, stream: bool) -> None:
    before = len(stage.engine.requests)
    url = f"http://127.0.0.1:{stage.port}{path}"
    assert httpx.post(url, content=body(path, "one two", stream=stream), trust_env=False).status_code == 200
    assert len(stage.engine.requests) == before + 1


@pytest.mark.parametrize("path", ["/api/embed", "/v1/embeddings"])
def test_texts_are_embedded_in_one_request(stage: Stage, path: str) -> None:
    before = len(stage.engine.requests)
    sent = {"model": "emb", "input": ["a", "b", "c"]}
    assert httpx.post(f"http://127.0.0.1:{stage.port}{path}", json=sent, trust_env=False).status_code == 200
    assert len(stage.engine.requests) == before + 1


@pytest.mark.parametrize(("path", "stream"), STREAMS)
def test_who_leaves_stops_the_engine(stage: Stage, path: str, stream: bool) -> None:
    stage.engine.aborted.clear()
    before = len(stage.engine.requests)
    with asked(stage, path, "endless", stream=stream) as connection:
        until(lambda: len(stage.engine.requests) > before)
        if stream:
            assert connection.recv(100)
    assert stage.engine.aborted.wait(10)


@pytest.mark.parametrize("path", REQUESTS)
def test_who_reads_slowly_holds_the_engine_up(stage: Stage, path: str) -> None:
    stage.engine.aborted.clear()
    stage.engine.sent = 0
    before = stage.resident_mb
    with asked(stage, path, "flood", stream=True) as connection:
        until(lambda: stage.engine.sent > 0)
        still, last = 0, -1
        while still < 20:  # the buffers between engine and client are full
            still, last = (still + 1 if stage.engine.sent == last else 0), stage.engine.sent
            time.sleep(0.05)
        held = stage.engine.sent
        assert stage.resident_mb - before < 16
        read = 0
        while stage.engine.sent == held:  # it goes on when the client does
            read += len(connection.recv(65536))
        assert read
    assert stage.engine.aborted.wait(10)
