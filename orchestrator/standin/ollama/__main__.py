"""`python -m orchestrator.standin.ollama serve|ps|list`, as the program `ollama`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from typing import Any

from orchestrator.standin.backend import Backend
from orchestrator.standin.ledger import Ledger
from orchestrator.standin.ollama import VERSION, logs, settings
from orchestrator.standin.ollama.app import App
from orchestrator.standin.ollama.scheduler import Scheduler
from orchestrator.standin.ollama.service import Service
from orchestrator.standin.ollama.store import Store, folder
from orchestrator.standin.wire import server

DOWN = "Error: could not connect to ollama server, run 'ollama serve' to start it"
GIB = 1000**3


def build(chosen: settings.Settings, ledger: Ledger | None) -> App:
    """Return the application over the models directory of the environment."""
    store = Store(folder())
    if os.environ.get("STANDIN_SEED") != "0":
        store.seed(os.environ.get("STANDIN_MODELS"))
    backend = Backend(chosen.backend) if chosen.backend else None
    return App(Service(chosen, store, Scheduler(chosen, ledger), backend))


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket, or exit as the real server does when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = "address already in use" if error.errno == 98 else str(error.strerror).lower()
        moment = time.strftime("%Y/%m/%d %H:%M:%S", time.gmtime())
        sys.stderr.write(f"{moment} listen tcp {host}:{port}: bind: {reason}\n")
        raise SystemExit(1) from error


def serve() -> None:
    """Serve until SIGTERM or SIGINT, which end everything in flight at once."""
    chosen = settings.read()
    ledger = Ledger.from_env("ollama")

    def stop(*_: object) -> None:
        if ledger:
            ledger.close()
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    bound = listen(chosen.host, chosen.port)
    gpus = ledger.mine() if ledger else []
    logs.banner(chosen, [(g.uuid, g.name, g.total, g.free) for g in gpus])

    async def run() -> None:
        await server(build(chosen, ledger), server_header=False).serve(sockets=[bound])

    asyncio.run(run())


def base_url() -> str:
    """Return where the client commands look: OLLAMA_HOST with an address to connect to."""
    host, port = settings.split_host(os.environ.get("OLLAMA_HOST", ""))
    return f"http://{'127.0.0.1' if host in {'0.0.0.0', '::', ''} else host}:{port}"


def fetch(path: str) -> dict[str, Any]:
    """Ask the running server, after the `HEAD /` with which every client command begins."""
    try:
        head = urllib.request.Request(base_url() + "/", method="HEAD")  # noqa: S310
        urllib.request.urlopen(head, timeout=30).close()  # noqa: S310
        with urllib.request.urlopen(base_url() + path, timeout=30) as answer:  # noqa: S310
            return dict(json.load(answer))
    except (urllib.error.URLError, OSError) as error:
        sys.stderr.write(DOWN + "\n")
        raise SystemExit(1) from error


def show_list() -> None:
    rows: list[tuple[str, ...]] = [("NAME", "ID", "SIZE", "MODIFIED")]
    rows += [(m["name"], m["digest"][:12], f"{m['size'] / GIB:.1f} GB", "now") for m in fetch("/api/tags")["models"]]
    _print(rows)


def show_ps() -> None:
    rows: list[tuple[str, ...]] = [("NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL")]
    for m in fetch("/api/ps")["models"]:
        share = round(100 * m["size_vram"] / m["size"]) if m["size"] else 0
        where = {0: "100% CPU", 100: "100% GPU"}.get(share, f"{100 - share}%/{share}% CPU/GPU")
        size = f"{m['size'] / GIB:.1f} GB"
        rows.append((m["name"], m["digest"][:12], size, where, str(m["context_length"]), m["expires_at"]))
    _print(rows)


def _print(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        sys.stdout.write("    ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + "\n")


def main() -> None:
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    actions = {"serve": serve, "ps": show_ps, "list": show_list, "ls": show_list}
    if command in {"--version", "-v"}:
        sys.stdout.write(f"ollama version is {VERSION}\n")
    elif command in actions:
        actions[command]()
    else:
        sys.stderr.write(f'Error: unknown command "{command}" for "ollama"\n')
        raise SystemExit(1)


if __name__ == "__main__":
    main()
