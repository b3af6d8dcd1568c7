"""Both stand-ins in threads of this process, started as the servers of the recordings were."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.standin.ollama import logs
from orchestrator.standin.ollama.app import App as OllamaApp
from orchestrator.standin.ollama.scheduler import Scheduler
from orchestrator.standin.ollama.service import Service
from orchestrator.standin.ollama.settings import Settings
from orchestrator.standin.ollama.store import Store
from orchestrator.standin.vllm import flags, startlog
from orchestrator.standin.vllm.app import App as VllmApp
from orchestrator.standin.vllm.engine import Engine
from orchestrator.standin.vllm.metrics import Metrics
from orchestrator.standin.vllm.startup import Ready
from orchestrator.standin.wire import Server, server

HERE = Path(__file__).parent


class Running:
    """A server on a free port of loopback, without access logs: its threads outlive pytest's capture."""

    def __init__(self, app: Callable[[], Any], *, server_header: bool) -> None:
        logs.access = startlog.access = lambda *_: None
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._server: Server | None = None
        self._thread = threading.Thread(target=self._run, args=(app, server_header), daemon=True)
        self._thread.start()

    def _run(self, app: Callable[[], Any], server_header: bool) -> None:
        async def main() -> None:
            built = app()
            self._server = server(built, server_header=server_header)
            await self._server.serve(sockets=[self._socket])
            if isinstance(built, OllamaApp):
                await built.close()

        asyncio.run(main())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        while self._server is None:
            time.sleep(0.01)
        self._server.force_exit = True
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, str | None, str]:
        """Send exactly these headers; returns status, content type and the whole body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        given = {k.lower() for k in headers or {}}
        connection.putrequest(method, path, skip_host="host" in given, skip_accept_encoding=True)
        for key, value in (headers or {}).items():
            connection.putheader(key, value)
        if body:
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body or None)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, answer.headers.get("content-type"), text

    def post(self, path: str, value: Any) -> tuple[int, str | None, str]:
        return self.ask("POST", path, json.dumps(value).encode(), {"content-type": "application/json"})


def ollama(root: Path, settings: Settings | None = None, described: Path | None = None, **more: Any) -> Running:
    """Start a stand-in Ollama over a models directory; `more` goes to its Service."""
    chosen = settings or Settings(load_s=0, token_s=0, prompt_s=0)
    store = Store(root)
    store.seed(str(described) if described else None)

    def app() -> OllamaApp:
        return OllamaApp(Service(chosen, store, Scheduler(chosen, more.get("ledger")), more.get("backend")))

    return Running(app, server_header=False)


def vllm(*argv: str, context: int = 1024, env: dict[str, str] | None = None, **timing: float) -> Running:
    """Start a stand-in vLLM that is ready; `timing` sets token_s and prompt_s."""
    options = flags.parse(["serve", *argv], env or {})

    def app() -> VllmApp:
        pace = {"token_s": 0.0, "prompt_s": 0.0, **timing}
        return VllmApp(Engine(options, Ready(context, 524_288, 0.0), Metrics(options.names[0]), **pace))

    return Running(app, server_header=True)
