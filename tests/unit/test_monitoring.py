"""The profile `monitoring`: rendered, off by default, only Grafana published; the dashboard asks for what exists."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from orchestrator.clients.docker.compose import Compose
from orchestrator.render import TOKEN, render, services
from orchestrator.rendering.stack import MONITORING
from orchestrator.spec import Spec

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
ENGINE = {"repo": "a/b", "gpus": ["0", "1"], "kv_cache": "4GiB"}


def spec(**changes: Any) -> Spec:
    data = {
        "name": "demo", "ollama": {"gpus": ["0"]}, "engines": {"one": ENGINE | {"replicas": 2}, "two": ENGINE},
        "routes": {"a:8b": {"engine": "one"}, "b:8b": {"engine": "two"}},
    }  # fmt: skip
    return Spec.model_validate(data | changes)


def rendered(given: Spec) -> dict[str, Any]:
    return {name: yaml.safe_load(text) for name, text in render(given).items() if name.endswith((".yaml", ".yml", ".json"))}


def test_it_is_off_by_default_and_publishes_grafana_on_loopback_alone() -> None:
    found = rendered(spec(monitoring={"port": 3999}))["compose.yaml"]["services"]
    ours = {name: service for name, service in found.items() if service.get("profiles")}
    assert set(ours) == set(MONITORING)
    assert set(MONITORING).isdisjoint(services(spec()))
    assert all(service["profiles"] == ["monitoring"] for service in ours.values())
    published = {name: service["ports"] for name, service in ours.items() if "ports" in service}
    assert published == {"grafana": [{"target": 3000, "published": "3999", "host_ip": "127.0.0.1", "protocol": "tcp"}]}


def test_its_images_are_exact_and_can_be_replaced() -> None:
    default = rendered(spec())["compose.yaml"]["services"]
    for name in ("prometheus", "grafana"):
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", default[name]["image"])
    own = rendered(spec(images={"prometheus": "r/p:1", "grafana": "r/g:2", "sidecar": "r/s:3"}))["compose.yaml"]["services"]
    assert [own[name]["image"] for name in MONITORING] == ["r/s:3", "r/p:1", "r/g:2"]


def test_its_services_keep_what_the_others_keep() -> None:
    found = rendered(spec())["compose.yaml"]
    for name in MONITORING:
        one = found["services"][name]
        assert one["cap_drop"] == ["ALL"]
        assert one["labels"] == {"org.migrate.stack": "demo", "org.migrate.role": "monitoring"}
        assert one["networks"]["default"]["aliases"] == [f"migrate-demo-{name}"]
        assert one["healthcheck"]["test"][0] == "CMD"
        for mount in one.get("volumes", []):
            source = mount.split(":")[0]
            assert source in found["volumes"] or source.removeprefix("./") in {*render(spec()), TOKEN}, mount


def test_every_engine_replica_the_gateway_and_ollama_are_scraped() -> None:
    found = rendered(spec())["monitoring/prometheus.yml"]
    targets = {job["job_name"]: [one for group in job["static_configs"] for one in group["targets"]] for job in found["scrape_configs"]}
    assert targets == {
        "gateway": ["migrate-demo-gateway:9180"],
        "vllm": ["migrate-demo-vllm-one:8000", "migrate-demo-vllm-one-2:8000", "migrate-demo-vllm-two:8000"],
        "ollama": ["migrate-demo-sampler:9181"],
    }
    replicas = [group["labels"] for group in found["scrape_configs"][1]["static_configs"]]
    assert [one["replica"] for one in replicas] == ["one", "one-2", "two"]
    mounts = rendered(spec())["compose.yaml"]["services"]["prometheus"]["volumes"]
    token = found["scrape_configs"][0]["authorization"]["credentials_file"]
    assert f"./{TOKEN}:{token}:ro" in mounts
    assert not [text for name, text in render(spec()).items() if name.startswith("monitoring/") and "Bearer" in text]


def test_a_stack_without_engines_is_still_valid() -> None:
    found = rendered(spec(engines={}, routes={}))["monitoring/prometheus.yml"]
    assert found["scrape_configs"][1]["static_configs"] == []


def test_grafana_has_no_account_and_calls_nobody() -> None:
    env = rendered(spec())["compose.yaml"]["services"]["grafana"]["environment"]
    assert env["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert env["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == env["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert env["GF_AUTH_BASIC_ENABLED"] == env["GF_ANALYTICS_REPORTING_ENABLED"] == "false"
    assert rendered(spec())["monitoring/datasource.yaml"]["datasources"][0]["url"] == "http://migrate-demo-prometheus:9090"


def test_the_dashboard_fits_the_provisioning() -> None:
    files = rendered(spec())
    dashboard, source = files["monitoring/dashboard.json"], files["monitoring/datasource.yaml"]["datasources"][0]
    assert json.loads((TEMPLATES / "monitoring" / "dashboard.json").read_text(encoding="utf-8")) == dashboard
    folder = files["monitoring/dashboards.yaml"]["providers"][0]["options"]["path"]
    assert f"./monitoring/dashboard.json:{folder}/migrate.json:ro" in files["compose.yaml"]["services"]["grafana"]["volumes"]
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_down_takes_the_profile_along(tmp_path: Path, monkeypatch: Any) -> None:
    asked: list[tuple[Any, ...]] = []
    compose = Compose("p", tmp_path, [])
    monkeypatch.setattr(compose._cli, "compose", lambda *args, **more: asked.append((*args, more)))
    compose.down(volumes=True)
    assert asked == [("down", "--remove-orphans", "--volumes", {"profile": "monitoring"})]
