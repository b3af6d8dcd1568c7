"""What a real Ollama answered, asked again through the real gateway: adapter and stand-in vLLM answer.

`CONFORMANCE_RECORDINGS` points it to another folder. Where vLLM answers without the adapter, Ollama's fields must be
among its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import fields
import gateway_stack
import httpx
import migrated
import pytest
import recorded
import servers
from fields import Api, Json
from gateway_stack import Gateway
from recorded import Case

pytestmark = pytest.mark.docker
APIS = fields.load()
PORTABLE = [pytest.param(api, probe, id=name) for name, api, probe in fields.portable(APIS)]
CASES = [case for case in recorded.load() if migrated.concerns(case)]
MODELS = {**gateway_stack.named(fields.MODELS), **migrated.models(CASES)}
ENGINES = {
    "one": ("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
    "thinking": ("--reasoning-parser", "qwen3"),
    "embedding": ("--runner", "pooling"),
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    patch = pytest.MonkeyPatch()
    patch.setenv("STANDIN_TEXT_TOKENS", "300")
    folder = tmp_path_factory.mktemp("gateway")
    skip = {"VLLM_SKIP_MODEL_NAME_VALIDATION": "1"}
    beside = {
        name: servers.vllm("./tiny", "--served-model-name", name, "--max-model-len", "1024", *argv, env=skip)
        for name, argv in ENGINES.items()
    }
    ollama = servers.ollama(tmp_path_factory.mktemp("models"), described=servers.HERE / "models.json")
    engines = {name: f"127.0.0.1:{server.port}" for name, server in beside.items()}
    try:
        address = f"127.0.0.1:{ollama.port}"
        with gateway_stack.running(folder, MODELS, ollama=address, engines=engines) as started:
            yield started
    finally:
        for server in (ollama, *beside.values()):
            server.stop()
        patch.undo()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_answer_is_ollamas(gateway: Gateway, case: Case) -> None:
    gateway.forget_records()
    status, kind, body = gateway.send(case)
    wrong = migrated.judge(case, status, kind, body, place="standin", by=gateway.via())
    assert wrong is None, wrong


@pytest.mark.parametrize(("api", "probe"), PORTABLE)
def test_what_the_table_says_holds_through_the_gateway(gateway: Gateway, api: Api, probe: Json) -> None:
    answer = httpx.post(gateway.public + api.path, content=fields.request_of(api, probe), timeout=30, trust_env=False)
    assert (why := fields.refused_alike(probe, answer.status_code, answer.text)) is None, why


def test_what_engines_serve_is_loaded(gateway: Gateway) -> None:
    listed = httpx.get(f"{gateway.public}/api/ps", trust_env=False).json()["models"]
    assert {entry["name"] for entry in listed} >= gateway.routes.keys()


def test_there_are_recordings() -> None:
    assert CASES, f"no recordings of a migrated model's API below {recorded.folder()}"
