"""Looks at a running Ollama for a while: connections that are open, and what is loaded. Changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from orchestrator.clients.ollama import Ollama
from orchestrator.decide.evidence import sampled
from orchestrator.errors import MigrateError
from orchestrator.facts import Traffic

EVERY_S = 1.0
_ESTABLISHED = "01"
_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


def look(
    url: str, port: int, seconds: float, *, tables: Callable[[], str] | None = None,
    tell: Callable[[float], None] = lambda _: None,
) -> Traffic:
    """Return what samples over `seconds` show. `tables`: the kernel's TCP tables where Ollama listens on `port`.

    A connection that is kept open without a request counts too: the figure is an upper bound. Raises
    MigrateError when Ollama does not answer at all.
    """
    read = tables or _own
    samples = []
    end = time.monotonic() + seconds
    while True:
        names = _loaded(url)
        samples.append((time.time(), established(read(), port), names))
        left = end - time.monotonic()
        if left <= 0:
            return sampled(samples, f"{url} for {seconds:g} s")
        tell(left)
        time.sleep(min(EVERY_S, left))


def established(table: str, port: int) -> int:
    """Return how many connections to the local port are open in the text of /proc/net/tcp and tcp6."""
    wanted = f":{port:04X}"
    rows = (line.split() for line in table.splitlines())
    return sum(len(row) > 3 and row[1].endswith(wanted) and row[3] == _ESTABLISHED for row in rows)


def _loaded(url: str) -> tuple[str, ...]:
    with Ollama(url) as ollama:
        return tuple(one.name for one in ollama.ps())


def _own() -> str:
    found = [Path(table) for table in _TABLES]
    if not any(table.exists() for table in found):
        raise MigrateError("open connections cannot be seen on this system",
                           hint="give a log: migrate plan --log FILE, or say how many: --users N")  # fmt: skip
    return "".join(table.read_text(encoding="utf-8") for table in found if table.exists())
