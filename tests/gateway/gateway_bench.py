"""A gateway with its upstreams, and how tests talk to it."""

from __future__ import annotations

from dataclasses import dataclass, field

import httpx
from gateway_fakes import Fake
from gateway_harness import ROUTE, Nginx


@dataclass
class Bench:
    """The gateway and its upstreams: Ollama, the adapter, an engine alone, and one with replicas."""

    nginx: Nginx
    ollama: Fake
    adapter: Fake
    engine: Fake
    replicas: dict[str, Fake] = field(default_factory=dict)

    @property
    def fakes(self) -> list[Fake]:
        return [self.ollama, self.adapter, self.engine, *self.replicas.values()]

    def post(self, path: str, body: dict | bytes, **kwargs) -> httpx.Response:
        how = {"content": body} if isinstance(body, bytes) else {"json": body}
        return httpx.post(self.nginx.public + path, **how, **{"timeout": 30, **kwargs})

    def chat(self, **changes) -> httpx.Response:
        return self.post("/v1/chat/completions", chat(**changes))


def chat(**changes) -> dict:
    return {"messages": [{"role": "user", "content": "hello"}], "model": ROUTE, **changes}
