"""Watching a real server on this machine: open connections are counted, the watcher's own is not."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import standin_servers

from orchestrator.errors import MigrateError
from orchestrator.observe import watch

TABLE = """  sl  local_address rem_address   st tx_queue
   0: 0100007F:2CAA 00000000:0000 0A 00000000:00000000
   1: 0100007F:2CAA 0100007F:D1B2 01 00000000:00000000
   2: 0100007F:D1B2 0100007F:2CAA 01 00000000:00000000
   3: 0100007F:2CAA 0100007F:D1B4 06 00000000:00000000
  broken
"""


def test_only_open_connections_to_the_port_count() -> None:
    assert watch.established(TABLE, 11434) == 1
    assert watch.established(TABLE, 80) == 0
    assert watch.established("", 11434) == 0


def test_open_connections_of_a_server_are_seen(tmp_path: Path) -> None:
    running = standin_servers.ollama(tmp_path)
    try:
        where = ("127.0.0.1", running.port)
        with socket.create_connection(where), socket.create_connection(where):
            found = watch.look(running.url, running.port, 0.2)
    finally:
        running.stop()
    assert found.source == "watch"
    assert found.concurrency.peak == 2


def test_a_server_that_is_away_is_told() -> None:
    with pytest.raises(MigrateError):
        watch.look("http://127.0.0.1:1", 1, 0.1)
