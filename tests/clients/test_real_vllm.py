"""Unchanged client libraries against the stack with a real vLLM (its CPU build, a tiny model with random weights).

What the model says is chance, so a text's shape and how it ended are not compared: every call that Ollama answers is
answered by the same class with the same fields, every refusal is the same.
"""

from __future__ import annotations

import re
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import clients_stack
import httpx
import pytest
from clients_drivers import DRIVERS, Driver
from clients_stack import CHAT, EMBED, THINKER, adapters, full, harness
from compared import differences, rows

from demo.scene import SHARED_CPU, TINY, models_folder

pytestmark = [pytest.mark.docker, pytest.mark.vllm, pytest.mark.full, pytest.mark.timeout(900)]
Json = dict[str, Any]
IMAGE = "migrate/vllm-cpu:dev"
READY_S = 400
NAMES = {"chat": CHAT, "thinker": THINKER, "embed": EMBED}
ENGINES = {
    "chat": ("--served-model-name", CHAT, full(THINKER), "--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
    "vectors": ("--served-model-name", full(EMBED), "--runner", "pooling", "--dtype", "float32"),
}
# Whether it calls a tool, thinks, or comes to an end is this model's word: such cases only have to be answered.
CHANCE = re.compile(r"-(tools(-stream)?|think(ing)?(-stream)?|json|schema|function|stop|stops)$")
CALLED = "chat-tools-arguments"  # reads the call that must have come


def start(argv: tuple[str, ...], port: int) -> str:
    """Start a vLLM on the host's network and wait until it is ready; return its container."""
    env = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1",
           "VLLM_SKIP_MODEL_NAME_VALIDATION": "1", **SHARED_CPU}  # fmt: skip
    container = f"migrate-clients-{uuid.uuid4().hex[:8]}"
    given = [word for key, value in env.items() for word in ("-e", f"{key}={value}")]
    harness.docker("run", "-d", "--name", container, "--network", "host", "--shm-size", "1g", *given,
                   "-v", f"{models_folder()}:/models:ro", IMAGE, TINY, "--port", str(port), "--host", "127.0.0.1",
                   "--max-model-len", str(clients_stack.CONTEXT), "--max-num-seqs", "16", "--enforce-eager",
                   "--generation-config", "vllm", *argv)  # fmt: skip
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200:
                return container
        except httpx.TransportError:
            time.sleep(1)
        if harness.docker("inspect", "-f", "{{.State.Running}}", container) != "true":
            break
    done = subprocess.run(["docker", "logs", "--tail", "40", container], check=False, capture_output=True, text=True)
    raise AssertionError(done.stdout + done.stderr)


@pytest.fixture(scope="module")
def told(servers: Any, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Json]]:
    """Every client's results by side, `ollama` and `vllm`."""
    folder = tmp_path_factory.mktemp("clients")
    found: dict[str, Json] = {}
    started: list[str] = []
    try:
        at: Json = {}
        for name, argv in ENGINES.items():  # one after the other: each profiles the machine's memory
            port = adapters.free_port()
            started.append(start(argv, port))
            at[name] = f"127.0.0.1:{port}"
        at["think"] = at["chat"]
        with ExitStack() as opened:
            stack = opened.enter_context(clients_stack.running(folder, servers, real=at))
            drivers = [opened.enter_context(Driver(name, home, folder / f"{name}.log")) for name in DRIVERS]
            for driver in drivers:
                driver.ready()
            for side in ("ollama", "vllm"):
                stack.turn(side)
                found[side] = {one.name: one.ask({"url": stack.url, "side": side, **NAMES}) for one in drivers}
        yield found
    finally:
        for container in started:
            subprocess.run(["docker", "rm", "-f", container], check=False, capture_output=True)


def failed(result: Any) -> bool:
    return isinstance(result, dict) and {"error", "said"} <= result.keys()


@pytest.mark.parametrize("client", DRIVERS)
def test_a_client_sees_what_it_saw_on_ollama(told: dict[str, Json], client: str) -> None:
    found = differences(client, told["ollama"][client], told["vllm"][client])
    undeclared = [
        str(one) for one in found
        if not CHANCE.search(one.case) and one.case != CALLED and not any(row.covers(one) for row in rows())
    ]  # fmt: skip
    assert not undeclared, "\n".join(undeclared)


@pytest.mark.parametrize("client", DRIVERS)
def test_every_call_is_answered(told: dict[str, Json], client: str) -> None:
    for case, result in told["vllm"][client].items():
        # A JSON text of a model that says anything may never end; count-tokens: declared, Ollama has no such path.
        if case not in (CALLED, "count-tokens") and not re.search("-(json|schema|function)$", case):
            assert failed(result) == failed(told["ollama"][client][case]), f"{case}: {result}"
