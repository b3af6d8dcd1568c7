"""/api/ps: the adapter tells what is loaded on both sides; without it Ollama tells its own."""

from __future__ import annotations

import httpx
import pytest
from gateway_bench import Bench

pytestmark = pytest.mark.docker


def test_the_adapter_tells_what_is_loaded(bench: Bench) -> None:
    headers = {"Origin": "http://localhost:3000", "X-Migrate-Route": "forged"}
    answer = httpx.get(f"{bench.nginx.public}/api/ps", headers=headers)
    assert (answer.status_code, answer.json()["from"]) == (200, "adapter")
    seen = bench.adapter.seen[-1]
    assert (seen.method, seen.path) == ("GET", "/api/ps")
    assert not seen.headers.get("X-Migrate-Route")
    assert bench.ollama.seen == []


def test_without_the_adapter_ollama_tells_its_own(bench: Bench) -> None:
    bench.adapter.stop()
    assert httpx.get(f"{bench.nginx.public}/api/ps").json()["from"] == "ollama"
    bench.ollama.stop()
    assert httpx.get(f"{bench.nginx.public}/api/ps").status_code == 502
