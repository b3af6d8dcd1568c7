"""A gateway with its upstreams, and how tests talk to it."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
from gateway_fakes import Fake
from gateway_harness import ROUTE, Nginx


@dataclass
class Bench:
    """The gateway and its three upstreams."""

    nginx: Nginx
    ollama: Fake
    adapter: Fake
    engine: Fake

    def post(self, path: str, body: dict | bytes, **kwargs) -> httpx.Response:
        how = {"content": body} if isinstance(body, bytes) else {"json": body}
        return httpx.post(self.nginx.public + path, **how, **{"timeout": 30, **kwargs})

    def chat(self, **changes) -> httpx.Response:
        return self.post("/v1/chat/completions", chat(**changes))


def chat(**changes) -> dict:
    return {"messages": [{"role": "user", "content": "hello"}], "model": ROUTE, **changes}
