"""`python -m orchestrator.adapter.serve`: the adapter as a server, its configuration re-read on change."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from orchestrator.adapter import config as configuration
from orchestrator.adapter.alive import answers
from orchestrator.adapter.respond import log
from orchestrator.adapter.watched import Watched
from orchestrator.errors import MigrateError

DEFAULT = "/etc/adapter/config.json"
WATCH_S = 1.0


def watch(watched: Watched[configuration.Config], stop: threading.Event) -> None:
    """Look for changes of the configuration until told to stop."""
    while not stop.wait(WATCH_S):
        watched.check()


def main() -> int:
    """Serve until SIGTERM; streams in flight are finished first."""
    parser = argparse.ArgumentParser(prog="adapter", description=__doc__)
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--config", type=Path, default=Path(os.environ.get("ADAPTER_CONFIG", DEFAULT)))
    parser.add_argument("--check", action="store_true", help="ask a running adapter for its health")
    given = parser.parse_args()
    if given.check:
        return answers("adapter", given.port)
    try:
        watched = Watched(given.config, configuration.load)
    except MigrateError as error:
        sys.stderr.write(f"{error.message}\n")
        return int(error.exit_code)
    signal.signal(signal.SIGHUP, lambda *_: watched.reload())
    stop = threading.Event()
    threading.Thread(target=watch, args=(watched, stop), daemon=True).start()
    import uvicorn

    from orchestrator.adapter.app import Adapter  # late, so that --check is quick

    log(event="start", port=given.port, routes=sorted(watched.current.routes))
    uvicorn.run(Adapter(watched.get).app(), host=given.host, port=given.port, access_log=False,
                log_level="warning", server_header=False, timeout_keep_alive=75)  # fmt: skip
    stop.set()
    return 0


if __name__ == "__main__":
    sys.exit(main())
