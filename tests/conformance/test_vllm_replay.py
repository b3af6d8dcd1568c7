"""What a real Ollama answered, asked again through gateway and adapter: a real vLLM answers (its CPU build, a tiny
model with random weights). One start for the whole module.

`CONFORMANCE_RECORDINGS` points it to another folder.
"""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Iterator

import fields
import gateway_stack
import httpx
import migrated
import pytest
import recorded
import servers
from adapter_engine import free_port
from fields import Api, Json
from gateway_harness import docker
from gateway_stack import Gateway
from recorded import Case

from demo.scene import SHARED_CPU, TINY, models_folder

pytestmark = [pytest.mark.docker, pytest.mark.vllm, pytest.mark.timeout(900)]
APIS = fields.load()
PORTABLE = [pytest.param(api, probe, id=name) for name, api, probe in fields.portable(APIS)]
CASES = [case for case in recorded.load() if migrated.concerns(case)]
IMAGE = "migrate/vllm-cpu:dev"
READY_S = 400
MODELS = {**gateway_stack.named(fields.MODELS), **migrated.models(CASES)}
ENGINES = {
    "one": ("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
    "embedding": ("--runner", "pooling", "--dtype", "float32"),  # float16, its own choice, kills it on some CPUs
}


def start(name: str, argv: tuple[str, ...], port: int) -> str:
    """Start a vLLM on the host's network and return its container."""
    env = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1",
           "VLLM_SKIP_MODEL_NAME_VALIDATION": "1", **SHARED_CPU}  # fmt: skip
    container = f"migrate-conformance-{uuid.uuid4().hex[:8]}"
    given = [word for key, value in env.items() for word in ("-e", f"{key}={value}")]
    docker("run", "-d", "--name", container, "--network", "host", "--shm-size", "1g", *given,
           "-v", f"{models_folder()}:/models:ro", IMAGE, TINY, "--served-model-name", name, "--port", str(port),
           "--host", "127.0.0.1", "--max-model-len", "1024", "--max-num-seqs", "16", "--enforce-eager",
           "--generation-config", "vllm", *argv)  # fmt: skip
    return container


def wait(container: str, port: int) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(1)
        assert docker("inspect", "-f", "{{.State.Running}}", container) == "true", said(container)
    raise AssertionError(said(container))


def said(container: str) -> str:
    done = subprocess.run(["docker", "logs", "--tail", "40", container], check=False, capture_output=True, text=True)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    ollama = servers.ollama(tmp_path_factory.mktemp("models"), described=servers.HERE / "models.json")
    started: list[str] = []
    engines: dict[str, str] = {}
    try:
        for name, argv in ENGINES.items():  # one after the other: each profiles the machine's memory
            port = free_port()
            started.append(start(name, argv, port))
            wait(started[-1], port)
            engines[name] = f"127.0.0.1:{port}"
        folder, address = tmp_path_factory.mktemp("gateway"), f"127.0.0.1:{ollama.port}"
        with gateway_stack.running(folder, MODELS, ollama=address, engines=engines) as stack:
            yield stack
    finally:
        for container in started:
            subprocess.run(["docker", "rm", "-f", container], check=False, capture_output=True)
        ollama.stop()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_answer_is_ollamas(gateway: Gateway, case: Case) -> None:
    gateway.forget_records()
    status, kind, body = gateway.send(case)
    wrong = migrated.judge(case, status, kind, body, place="vllm", by=gateway.via())
    assert wrong is None, wrong


@pytest.mark.parametrize(("api", "probe"), PORTABLE)
def test_what_the_table_says_holds_before_a_real_engine(gateway: Gateway, api: Api, probe: Json) -> None:
    answer = httpx.post(gateway.public + api.path, content=fields.request_of(api, probe), timeout=120, trust_env=False)
    assert (why := fields.refused_alike(probe, answer.status_code, answer.text)) is None, why
