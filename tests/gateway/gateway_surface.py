"""A gateway of a test's own whose doors are closed as it says, with the shared upstreams behind it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from gateway_bench import Bench, chat
from gateway_harness import ROUTE, Nginx, Ports

HF = "meta-llama/Llama-3.1-8B-Instruct"


class Doors(Nginx):
    """`surface` is that part of config.json; the upstreams are those of `bench`."""

    def __init__(self, folder: Path, bench: Bench, base: int, surface: dict[str, Any] | None = None) -> None:
        self.surface, self.bench = surface or {}, bench
        super().__init__(folder, Ports(base))

    @property
    def openai(self) -> str:
        return f"http://127.0.0.1:{self.ports.base + 20}"

    def _addresses(self) -> dict:
        own = super()._addresses()
        up = self.bench.nginx._addresses()
        gate = any(self.surface.get(key) for key in ("keys", "read_only", "hosts"))
        openai = f"127.0.0.1:{self.ports.base + 20}"
        return own | {key: up[key] for key in ("ollama", "adapter", "engines")} | {"gate": gate, "openai_listen": openai}

    def _write(self) -> None:
        super()._write()
        path = self.etc / "config.json"
        config = json.loads(path.read_text())
        config["surface"] = self.surface
        config["routes"][ROUTE] |= {"foreign": [HF], "root": HF, "context": 4096}
        path.write_text(json.dumps(config))

    def chat(self, url: str | None = None, *, headers: dict[str, str] | None = None, **changes: Any) -> httpx.Response:
        url = url or self.public
        return httpx.post(f"{url}/v1/chat/completions", json=chat(**changes), headers=headers, timeout=30)


@contextmanager
def doors(folder: Path, bench: Bench, base: int, surface: dict[str, Any] | None = None) -> Iterator[Doors]:
    one = Doors(folder, bench, base, surface)
    try:
        one.start()
        yield one
        print(one.logs())
    finally:
        one.remove()


def raw(port: int, text: bytes, *, more: bytes = b"", wait: float = 5) -> bytes:
    """Send exactly these bytes and return all that comes until the other end closes or says no more."""
    with socket.create_connection(("127.0.0.1", port), timeout=wait) as connection:
        connection.sendall(text)
        if more:
            connection.sendall(more)
        got = b""
        try:
            while part := connection.recv(65536):
                got += part
        except TimeoutError:
            pass
        except ConnectionResetError:
            pass
        return got
