"""A whole stack for client libraries: the real nginx gateway, the adapter as a process, stand-ins of all engines.

Sides that can be asked: `ollama` (every weight 0), `vllm` (every weight 100), `failover` (weight 100, and the engines
that generate are gone: Ollama answers, but for embeddings, whose engine stays), `absent` (weight 100, Ollama is gone).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from clients_modules import ROOT, load

Json = dict[str, Any]
CHAT, THINKER, EMBED = "llama3.1:8b", "thinker", "nomic-embed-text"
SIDES = ("ollama", "vllm", "failover")
BASE = 22700
DESCRIBED = ROOT / "tests" / "conformance" / "models.json"
CONTEXT = 2048
harness = load("clients_gateway", ROOT / "tests" / "gateway" / "gateway_harness.py")
adapters = load("clients_adapter_engine", ROOT / "tests" / "integration" / "adapter_engine.py")


@dataclass(frozen=True)
class Engine:
    """An engine of the stack: the route that it serves and the arguments of its server."""

    route: str
    argv: tuple[str, ...]
    kind: str = "generate"


ENGINES = {
    "chat": Engine(CHAT, ("--enable-auto-tool-choice", "--tool-call-parser", "llama3_json")),
    "think": Engine(THINKER, ("--reasoning-parser", "qwen3")),
    "vectors": Engine(EMBED, ("--runner", "pooling"), "embedding"),
}


class Gateway(harness.Nginx):  # type: ignore[name-defined, misc]
    """The gateway in front of these addresses."""

    def __init__(self, folder: Path, upstreams: Json, routes: Json, base: int) -> None:
        self.upstreams, self.routes = upstreams, routes
        super().__init__(folder, harness.Ports(base))

    def _addresses(self) -> Json:
        return {**super()._addresses(), **self.upstreams}

    def _write(self) -> None:
        super()._write()
        path = self.etc / "config.json"
        changed = {"engines": dict.fromkeys(self.upstreams["engines"], "e"), "replicas": {}, "routes": self.routes}
        path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


@dataclass
class Stack:
    """What runs, and which side is asked now."""

    gateway: Any
    ollama: Any
    engines: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return str(self.gateway.public)

    def turn(self, side: str) -> None:
        """Let a side answer; after `failover` and `absent` there is no way back, as servers are gone."""
        weight = 0 if side == "ollama" else 100
        answer = self.gateway.weights(dict.fromkeys(self.gateway.routes, weight))
        assert answer.status_code == 200, answer.text
        if side == "failover":
            for name in ("chat", "think"):
                if name in self.engines:
                    self.engines.pop(name).stop()
        if side == "absent":
            self.ollama.stop()

    def served(self) -> dict[str, int]:
        """Return how many requests each of ollama, direct and adapter answered so far."""
        found: dict[str, int] = {}
        text = (self.gateway.state / "access.jsonl").read_text()
        for line in text[: text.rfind("\n") + 1].splitlines():  # the last one may be half written
            via = str(json.loads(line).get("via"))
            found[via] = found.get(via, 0) + 1
        return found

    def stop(self) -> None:
        for server in (self.ollama, *self.engines.values()):
            server.stop()


def full(name: str) -> str:
    """Return a name with its tag."""
    return name if ":" in name else f"{name}:latest"


def routes_of(url: str, engines: Json) -> tuple[Json, Json]:
    """Return what gateway and adapter are told of each route, from what the Ollama at `url` says of its models."""
    listed = {one["name"]: one for one in httpx.get(f"{url}/api/tags").json()["models"]}
    gateway: Json = {}
    adapter: Json = {}
    for name, engine in ENGINES.items():
        route = full(engine.route)
        tag = listed[route]
        show = httpx.post(f"{url}/api/show", json={"model": route}).json()
        gateway[route] = harness.route(name, served=route, kind=engine.kind,
                                       direct=engine.kind == "generate", failover=engine.kind == "generate")  # fmt: skip
        adapter[route] = {
            "engine": name, "url": f"http://{engines[name]}", "served": route, "names": [], "context_length": CONTEXT,
            "capabilities": show["capabilities"], "show": show, "parameters": parameters(show),
            **{key: tag[key] for key in ("digest", "size", "details", "modified_at")},
        }  # fmt: skip
    return gateway, adapter


def parameters(show: Json) -> Json:
    """Return the stop words of a Modelfile, the only parameters that these models have."""
    stops = [line.split(maxsplit=1)[1].strip('"') for line in show.get("parameters", "").splitlines()]
    return {"stop": stops} if stops else {}


@contextmanager
def running(folder: Path, servers: Any, base: int = BASE, real: Json | None = None) -> Iterator[Stack]:
    """Start a stack on the ports from `base`; `servers` is the module of stand-ins.

    `real` gives the addresses (`host:port`) of engines that run already, instead of stand-ins.
    """
    ollama = servers.ollama(folder / "models", described=DESCRIBED)
    skip = {"VLLM_SKIP_MODEL_NAME_VALIDATION": "1"}
    engines = {
        name: servers.vllm("./tiny", "--served-model-name", full(one.route), *one.argv, context=CONTEXT, env=skip)
        for name, one in ({} if real else ENGINES).items()
    }
    addresses = real or {name: f"127.0.0.1:{server.port}" for name, server in engines.items()}
    routes, known = routes_of(ollama.url, addresses)
    port = adapters.free_port()
    upstreams = {"ollama": f"127.0.0.1:{ollama.port}", "adapter": f"127.0.0.1:{port}", "engines": addresses}
    config = folder / "adapter.json"
    config.write_text(json.dumps({"version": "0.32.15", "ollama": ollama.url, "routes": known}))
    stack = Stack(Gateway(folder, upstreams, routes, base), ollama, engines)
    adapter = adapters.serve(config, port, folder / "adapter.log")
    try:
        next(adapter)
        stack.gateway.start()
        yield stack
    finally:
        stack.gateway.remove()
        for _ in adapter:
            pass
        stack.stop()


def turns(folder: Path, servers: Any) -> Iterator[tuple[str, Stack]]:
    """Yield each side with the stack in which it answers now; Ollama that is gone needs a stack of its own."""
    for name in ("first", "second"):
        (folder / name).mkdir()
    with running(folder / "first", servers) as stack:
        for side in SIDES:
            stack.turn(side)
            yield side, stack
    with running(folder / "second", servers, BASE + 10) as stack:
        stack.turn("absent")
        yield "absent", stack
