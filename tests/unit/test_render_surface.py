"""What the section `gateway:` lets in, from migrate.yaml to the files of the stack."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from orchestrator.errors import UsageError
from orchestrator.facts import Facts, Model, OllamaFacts
from orchestrator.render import render
from orchestrator.spec import Spec, parse_spec

HF = "meta-llama/Llama-3.1-8B-Instruct"


def spec(gateway: dict[str, Any] | None = None, ollama: dict[str, Any] | None = None, **route: Any) -> Spec:
    data = {
        "name": "demo", "gateway": gateway or {}, "ollama": {"container": "ollama"} | (ollama or {}),
        "engines": {"llama": {"repo": HF, "gpus": ["0"], "kv_cache": "4GiB", "max_model_len": 8192}},
        "routes": {"llama3.1:8b": {"engine": "llama", **route}},
    }  # fmt: skip
    return Spec.model_validate(data)


def config(given: Spec, facts: Facts | None = None) -> dict[str, Any]:
    return json.loads(render(given, facts)["gateway/config.json"])


def gateway(given: Spec) -> dict[str, Any]:
    return yaml.safe_load(render(given)["compose.yaml"])["services"]["gateway"]


def test_nothing_asked_for_is_nothing_rendered() -> None:
    assert "surface" not in config(spec())
    assert "surface.enter()" not in render(spec())["gateway/nginx.conf"]
    assert "8000 backlog" not in render(spec())["gateway/nginx.conf"]


def test_vllms_port_is_published_where_ollamas_is() -> None:
    given = spec({"listen": "10.1.2.3", "openai_port": 8001})
    ports = [(one["target"], one["published"], one["host_ip"]) for one in gateway(given)["ports"]]
    assert (8000, "8001", "10.1.2.3") in ports
    assert "listen 0.0.0.0:8000" in render(given)["gateway/nginx.conf"]


@pytest.mark.parametrize(
    ("gateway_", "ollama", "expected"),
    [
        ({}, {"container": None}, True),
        ({"listen": "::1"}, {"container": None}, True),
        ({"listen": "0.0.0.0"}, {"container": None}, False),
        ({}, {}, False),
        ({}, {"container": None, "networks": {"a": ["ollama"]}}, False),
        ({"check_host": True}, {}, True),
        ({"check_host": False}, {"container": None}, False),
    ],
)  # fmt: skip
def test_hosts_are_checked_as_the_original_did(gateway_: dict[str, Any], ollama: dict[str, Any], expected: bool) -> None:
    given = spec(gateway_, ollama)
    assert config(given).get("surface", {}).get("hosts", False) is expected
    assert ("surface.enter()" in render(given)["gateway/nginx.conf"]) is expected


def test_origins_are_those_of_the_original() -> None:
    given = spec(ollama={"env": {"OLLAMA_ORIGINS": "https://a.example,*"}})
    assert config(given)["surface"] == {"origins": "https://a.example,*"}
    ollama = yaml.safe_load(render(given)["compose.yaml"])["services"]["ollama"]
    assert ollama["environment"]["OLLAMA_ORIGINS"] == "https://a.example,*"
    assert "surface.enter()" not in render(given)["gateway/nginx.conf"]  # costs no request anything


@pytest.mark.parametrize(
    ("file", "mount"),
    [("keys/clients", "./keys:/etc/gateway/keys:ro"), ("/srv/a b/team", "/srv/a b:/etc/gateway/keys:ro")],
)
def test_the_folder_of_the_keys_is_mounted(file: str, mount: str) -> None:
    given = spec({"keys": {"file": file, "mode": "enforce"}})
    assert mount in gateway(given)["volumes"]
    name = file.rsplit("/", 1)[-1]
    assert config(given)["surface"] == {"keys": {"file": f"/etc/gateway/keys/{name}", "mode": "enforce"}}


@pytest.mark.parametrize("file", ["clients", "/clients", "../x/y", "secrets/k", "gateway/k", "a:b/c", "", "keys/", 5])
def test_a_file_of_keys_lies_in_a_folder_of_its_own(file: Any) -> None:
    with pytest.raises(UsageError) as caught:
        parse_spec(yaml.safe_dump({"name": "demo", "gateway": {"keys": {"file": file}}}))
    assert "gateway/keys/file" in (caught.value.evidence or "")


@pytest.mark.parametrize(
    "ports", [{"port": 8000, "openai_port": 8000}, {"control_port": 8000, "openai_port": 8000}, {"port": 1, "control_port": 1}]
)  # fmt: skip
def test_ports_differ(ports: dict[str, int]) -> None:
    with pytest.raises(UsageError) as caught:
        parse_spec(yaml.safe_dump({"name": "demo", "gateway": ports}))
    assert "should differ" in (caught.value.evidence or "")


def test_names_that_ollama_does_not_know_are_told() -> None:
    known = Facts(OllamaFacts("http://x", "0.32.6", (Model(name="llama3.1:8b"), Model(name="Mine:latest"))))
    given = spec(names=["mine", "team-llama"])
    assert config(given, known)["routes"]["llama3.1:8b"]["foreign"] == ["team-llama", HF]
    assert config(given)["routes"]["llama3.1:8b"]["foreign"] == [HF]
    assert config(given)["routes"]["llama3.1:8b"]["root"] == HF
    assert config(given)["routes"]["llama3.1:8b"]["context"] == 8192
