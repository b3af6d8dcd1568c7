"""Asks a port who answers there, once or all the time."""

from __future__ import annotations

import http.client
import json
import threading
import time
from dataclasses import dataclass

PROBE_EVERY_S = 0.05
PROBE_TIMEOUT_S = 5.0


def get(host: str, port: int, path: str, timeout_s: float = 2.0) -> tuple[int, bytes]:
    """Status and body of a GET over a new connection; OSError or HTTPException when nothing answers."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={"Connection": "close", "User-Agent": "migrate-swap"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def who(host: str, port: int, stack: str, timeout_s: float = 2.0) -> str:
    """Who answers: "swap" or "final" (a gateway of this stack), "ollama" (something else that does), "" (nobody)."""
    try:
        status, body = get(host, port, "/_migrate/id", timeout_s)
        if status == 200:
            said = json.loads(body)
            if said.get("stack") == stack:
                return str(said.get("role", ""))
        return "ollama" if get(host, port, "/api/version", timeout_s)[0] == 200 else ""
    except (OSError, http.client.HTTPException, ValueError, AttributeError):
        return ""


@dataclass(frozen=True)
class ProbeStats:
    answered: int
    refused: int
    gap_s: float  # longest time between two answers
    silent_s: float  # time since the last answer


class Prober(threading.Thread):
    """Opens a new connection to the port every 50 ms and notes the longest time without an answer."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(name="prober", daemon=True)
        self._host, self._port = host, port
        self._stop_asked = threading.Event()
        self._answered = self._refused = 0
        self._gap_s = 0.0
        self._last = time.monotonic()

    def run(self) -> None:
        while not self._stop_asked.wait(PROBE_EVERY_S):
            try:
                status, _ = get(self._host, self._port, "/api/version", PROBE_TIMEOUT_S)
            except (OSError, http.client.HTTPException):
                status = 503
            if status < 500:
                now = time.monotonic()
                self._gap_s, self._last = max(self._gap_s, now - self._last), now
                self._answered += 1
            else:
                self._refused += 1

    def stats(self) -> ProbeStats:
        silent = time.monotonic() - self._last
        return ProbeStats(self._answered, self._refused, max(self._gap_s, silent), silent)

    def stop(self) -> ProbeStats:
        self._stop_asked.set()
        stats = self.stats()
        self.join(PROBE_TIMEOUT_S + 1)
        return stats
