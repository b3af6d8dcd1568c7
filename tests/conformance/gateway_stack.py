"""Gateway, adapter and engines as a stack has them: the real nginx in its image, the adapter as a process."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapter_engine import free_port, serve
from gateway_harness import Nginx, Ports
from recorded import Case

Json = dict[str, Any]
VERSION = "0.32.15"
BASE = 22600
DETAILS = {"parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
           "parameter_size": "2.67M", "quantization_level": "F16", "context_length": 2048}  # fmt: skip


class Gateway(Nginx):
    """The gateway in front of these addresses; `routes` are told to it and to the adapter."""

    def __init__(self, folder: Path, *, ollama: str, engines: dict[str, str], routes: dict[str, Json]) -> None:
        self.upstream, self.engines, self.routes = ollama, engines, routes
        self.adapter = f"127.0.0.1:{free_port()}"
        super().__init__(folder, Ports(BASE))

    def _addresses(self) -> Json:
        found = super()._addresses()
        return found | {"ollama": self.upstream, "adapter": self.adapter, "engines": self.engines}

    def _write(self) -> None:
        super()._write()
        path = self.etc / "config.json"
        config = json.loads(path.read_text())
        config |= {"engines": dict.fromkeys(self.engines, "e"), "replicas": {}, "routes": self.routes}
        path.write_text(json.dumps(config))

    def send(self, case: Case) -> tuple[int, str | None, str]:
        """Send exactly the recorded bytes; return status, content type and the whole body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports.public, timeout=120)
        try:
            connection.putrequest(case.method, urllib.parse.quote(case.path, safe="/?=&:%"), skip_accept_encoding=True)
            for name, value in case.headers.items():
                connection.putheader(name, value)
            if case.sent:
                connection.putheader("content-length", str(len(case.sent)))
            connection.endheaders(case.sent or None)
            answer = connection.getresponse()
            return answer.status, answer.headers.get("content-type"), answer.read().decode()
        finally:
            connection.close()

    def via(self) -> str:
        """Return who answered the last request: direct, adapter or ollama."""
        return str(self.record()["via"])


def named(models: dict[str, Json]) -> dict[str, Json]:
    """Return models without the names under which an engine serves them: here that is the engine's own."""
    return {name: {key: value for key, value in model.items() if key != "served"} for name, model in models.items()}


def _engine(model: Json, engines: dict[str, str]) -> str:
    return next((kind for kind in ("embedding", "thinking") if kind in model["capabilities"] and kind in engines), "one")


def route(name: str, model: Json, *, engine: str) -> Json:
    """Return what the gateway knows of a model."""
    fixed = model.get("system") or model.get("messages")
    embeds = "embedding" in model["capabilities"]
    return {
        "engine": engine, "names": [], "served": name, "direct": not fixed and not embeds,
        "kind": "embedding" if embeds else "generate", "failover": False,
    }  # fmt: skip


@contextmanager
def running(folder: Path, models: dict[str, Json], *, ollama: str, engines: dict[str, str]) -> Iterator[Gateway]:
    """Start gateway and adapter in front of engines, all routes at 100 %.

    `engines`: `host:port` of what serves models that `embedding` or `thinking`, and of `one` for all others; each
    serves under its own name here.
    """
    kinds = {name: _engine(model, engines) for name, model in models.items()}
    routes = {name: route(name, model, engine=kinds[name]) for name, model in models.items()}
    gateway = Gateway(folder, ollama=ollama, engines=engines, routes=routes)
    known = {
        name: {
            **model, "engine": kinds[name], "url": f"http://{engines[kinds[name]]}", "details": DETAILS,
            "served": kinds[name], "context_length": 1024, "digest": "d" * 64,
            "size": 123, "modified_at": "2026-11-21T01:19:41.164191135Z",
        }
        for name, model in models.items()
    }  # fmt: skip
    (folder / "adapter.json").write_text(
        json.dumps({"version": VERSION, "ollama": f"http://{ollama}", "routes": known})
    )
    adapter = serve(folder / "adapter.json", int(gateway.adapter.rsplit(":", 1)[1]), folder / "adapter.log")
    next(adapter)
    try:
        gateway.start()
        answer = gateway.weights(dict.fromkeys(routes, 100))
        assert answer.status_code == 200, answer.text
        yield gateway
    finally:
        gateway.remove()
        for _ in adapter:
            pass
