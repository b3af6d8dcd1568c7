"""Replicas of an engine: what the spec may say, and what is rendered of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from fake_engine import Engine
from starlette.testclient import TestClient

from orchestrator.adapter import config as adapter
from orchestrator.adapter.app import Adapter
from orchestrator.adapter.config import Config
from orchestrator.clients.gateway import Replica
from orchestrator.commands import show
from orchestrator.errors import UsageError
from orchestrator.render import render, services
from orchestrator.spec import Spec, parse_spec

ENGINE = {"repo": "meta-llama/Llama-3.1-8B-Instruct", "gpus": ["0", "1"]}


def raw(**engine: Any) -> dict[str, Any]:
    return {
        "name": "demo",
        "ollama": {"gpus": ["1"], "pinned": ["phi3:mini"]},
        "engines": {"llama": ENGINE | engine},
        "routes": {"llama3.1:8b": {"engine": "llama"}},
    }


def cpu(**engine: Any) -> dict[str, Any]:
    return raw(**engine) | {"accelerator": "cpu", "ollama": {}, "engines": {"llama": {"repo": "a/b"} | engine}}


def compose(data: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(render(Spec.model_validate(data))["compose.yaml"])["services"]
    return found


def config(data: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(render(Spec.model_validate(data))[name])
    return found


def gpus(service: dict[str, Any]) -> list[str]:
    found: list[str] = service["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"]
    return found


@pytest.mark.parametrize(("data", "told"), [
    (raw(replicas=2, gpus=["0", "1", "2"]), "engines/llama/replicas: 3 GPUs cannot be divided equally among 2"),
    (raw(replicas=2, gpus=["0"]), "1 GPU cannot be divided equally among 2 replicas"),
    (raw(replicas="3"), "2 GPUs cannot be divided equally among 3"),
    (raw(replicas=2, gpus=["0", "0"]), "engines/llama/gpus: a GPU is named twice"),
    (raw(replicas=2, gpus=[]), "engines/llama/gpus: name at least one GPU"),
    (raw(replicas=0), "engines/llama/replicas"),
    (raw(replicas=17), "engines/llama/replicas"),
    (raw(replicas=10**12), "engines/llama/replicas"),
    (raw(replicas="many"), "engines/llama/replicas"),
    (raw(replicas=None), "engines/llama/replicas"),
    (raw(replicas=[2]), "engines/llama/replicas"),
])  # fmt: skip
def test_replicas_that_cannot_be_are_told_with_their_path(data: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_spec(yaml.safe_dump(data))
    assert told in caught.value.evidence


def test_another_engine_may_not_bear_a_replicas_name() -> None:
    data = raw(replicas=2)
    data["engines"]["llama-2"] = ENGINE | {"gpus": ["2"]}
    data["routes"]["other:1"] = {"engine": "llama-2"}
    with pytest.raises(UsageError) as caught:
        parse_spec(yaml.safe_dump(data))
    assert caught.value.evidence == (
        "engines/llama-2: replica 2 of 'llama' would bear this name, so rename one of them"
    )
    data["engines"]["llama"]["replicas"] = 1
    assert parse_spec(yaml.safe_dump(data)).replicas("llama-2") == ("llama-2",)


def test_each_replica_has_its_slice_of_the_gpus_and_the_same_command() -> None:
    found = compose(raw(replicas=2, gpus=["0", "1", "2", "3"]))
    first, second = found["vllm-llama"], found["vllm-llama-2"]
    assert (gpus(first), gpus(second)) == (["0", "1"], ["2", "3"])
    assert first["command"] == second["command"]
    assert first["command"][first["command"].index("--tensor-parallel-size") + 1] == "2"
    assert first["shm_size"] == second["shm_size"] == "8gb"
    names = [one["networks"]["default"]["aliases"] for one in (first, second)]
    assert names == [["migrate-demo-vllm-llama"], ["migrate-demo-vllm-llama-2"]]
    assert [one["volumes"][1] for one in (first, second)] == [
        "./engine/llama.json:/migrate/start.json:ro", "./engine/llama-2.json:/migrate/start.json:ro",
    ]  # fmt: skip


def test_a_replica_waits_for_ollama_only_where_ollama_has_its_gpu() -> None:
    data = raw(replicas=2)
    first, second = config(data, "engine/llama.json"), config(data, "engine/llama-2.json")
    assert (first["name"], first["gpus"], first["pinned"]) == ("llama", ["0"], [])
    assert (second["name"], second["gpus"], second["pinned"]) == ("llama-2", ["1"], ["phi3:mini"])


def test_on_the_cpu_replicas_only_multiply() -> None:
    found = compose(cpu(replicas=3))
    assert [name for name in found if name.startswith("vllm-")] == ["vllm-llama", "vllm-llama-2", "vllm-llama-3"]
    assert all("deploy" not in found[name] for name in found)
    assert config(cpu(replicas=3), "engine/llama-3.json")["gpus"] == []


def test_services_and_the_eager_file_have_every_replica() -> None:
    spec = Spec.model_validate(raw(replicas=2))
    files = render(spec)
    eager = yaml.safe_load(files["compose.eager.yaml"])["services"]
    assert list(eager) == ["vllm-llama", "vllm-llama-2"]
    assert all("--enforce-eager" in one["command"] for one in eager.values())
    whole = yaml.safe_load(files["compose.yaml"])["services"]
    assert sorted(services(spec)) == sorted(name for name, one in whole.items() if "profiles" not in one)


def test_gateway_adapter_and_guard_know_the_replicas() -> None:
    data = raw(replicas=2)
    gateway = config(data, "gateway/config.json")
    assert gateway["replicas"] == {"llama": ["llama", "llama-2"]}
    assert gateway["engines"] == {
        "llama": "migrate-demo-vllm-llama:8000", "llama-2": "migrate-demo-vllm-llama-2:8000"
    }  # fmt: skip
    assert gateway["routes"]["llama3.1:8b"]["engine"] == "llama"
    nginx = render(Spec.model_validate(data))["gateway/nginx.conf"]
    assert "upstream engine_llama {" in nginx
    assert "upstream engine_llama-2 {" in nginx
    route = config(data, "adapter/config.json")["routes"]["llama3.1:8b"]
    assert route["url"] == "http://migrate-demo-vllm-llama:8000"
    assert route["replicas"]["llama-2"] == "http://migrate-demo-vllm-llama-2:8000"
    assert config(data, "guard/config.json")["engines"]["llama"]["replicas"] == ["llama", "llama-2"]


def test_one_replica_is_what_it_was_without_the_word() -> None:
    assert render(Spec.model_validate(raw(replicas=1))) == render(Spec.model_validate(raw()))
    assert "replicas" not in json.dumps([config(raw(), f"{name}/config.json") for name in ("gateway", "adapter", "guard")])


def test_a_second_replica_leaves_the_first_alone() -> None:
    one, two = compose(raw(gpus=["0"])), compose(raw(replicas=2))
    assert one["vllm-llama"] == two["vllm-llama"]


def adapter_config(**urls: str) -> Config:
    routes = {"m:1": {"engine": "e", "url": "http://127.0.0.1:9", "served": "m:1", "replicas": urls}}
    return adapter.parse({"routes": routes, "version": "1", "ollama": "http://127.0.0.1:9"})


@pytest.mark.parametrize(
    ("told", "path", "body"),
    [
        ("e", "/api/chat", {"messages": [{"role": "user", "content": "x"}]}),
        ("e-2", "/api/chat", {"messages": [{"role": "user", "content": "x"}]}),
        ("e-2", "/api/generate", {"prompt": "x"}),
        ("e-2", "/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "stream": True}),
        ("e-2", "/v1/completions", {"prompt": "x", "stream": True}),
    ],
)
def test_the_adapter_asks_the_replica_that_the_gateway_names(told: str, path: str, body: dict[str, Any]) -> None:
    with Engine() as first, Engine() as second:
        config = adapter_config(**{"e": first.url + "/", "e-2": second.url})
        headers = {"X-Migrate-Engine": told, "X-Migrate-Route": "m:1"}
        with TestClient(Adapter(lambda: config).app()) as client:
            assert client.post(path, json={"model": "m:1", **body}, headers=headers).status_code == 200
        asked = {"e": first, "e-2": second}
        assert {name: len(one.bodies) for name, one in asked.items()} == {name: int(name == told) for name in asked}


def test_a_replica_that_the_adapter_does_not_know_changes_nothing() -> None:
    route = adapter_config(e="http://x").routes["m:1"]
    assert [route.on(name).url for name in ("", "other", "E", "e")] == ["http://127.0.0.1:9"] * 3 + ["http://x"]
    assert adapter_config().routes["m:1"].on("e").url == "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("health", "word"),
    [
        ({"vllm-llama": "healthy", "vllm-llama-2": "healthy"}, "2 of 2 healthy"),
        ({"vllm-llama": "healthy", "vllm-llama-2": "unhealthy"}, "1 of 2 healthy, 1 of 2 unhealthy"),
        ({"vllm-llama-2": "starting"}, "1 of 2 absent, 1 of 2 starting"),
    ],
)
def test_status_counts_the_replicas_by_health(health: dict[str, str], word: str) -> None:
    assert show._engine_health(Spec.model_validate(raw(replicas=2)), "llama", health) == word
    assert show._engine_health(Spec.model_validate(raw()), "llama", health) == health.get("vllm-llama", "absent")


def test_status_says_which_replicas_are_passed_over_and_why() -> None:
    replicas = {
        "m": Replica(), "m-2": Replica(out=50, by="guard"), "m-3": Replica(out=1, by="gateway", failing=True),
        "m-4": Replica(failing=True),
    }  # fmt: skip
    said = show._passed_over({name: one.model_dump() for name, one in replicas.items()})
    assert said == [
        "! replica m-2 gets no requests: the guard got no answer; see: migrate logs vllm-m-2",
        "! replica m-3 gets no requests: it cannot be reached; see: migrate logs vllm-m-3",
        "! replica m-4 gets requests last: it answers with errors; see: migrate logs vllm-m-4",
    ]
