"""Values in a form that Compose refuses, ignores, or reads otherwise than it was meant."""

from __future__ import annotations

from orchestrator.decide.composecheck.document import Map, Seq
from orchestrator.decide.composecheck.project import Project
from orchestrator.decide.composecheck.service import Service
from orchestrator.decide.finding import Finding

_SWARM = ("placement", "endpoint_mode", "update_config", "rollback_config")


def check(project: Project) -> list[Finding]:
    found = []
    for service in project.services:
        found += _environment(service) + _swarm(service) + _health_form(service)
    return found


def _environment(service: Service) -> list[Finding]:
    said = service.get("environment")
    found = []
    if isinstance(said, Map):
        found += [
            Finding(
                "error",
                service.name,
                f"{key} is a boolean; Compose wants text",
                f'write "{str(value).lower()}"',
                line=said.at(key),
                code="env-boolean",
            )
            for key, value in said.items()
            if isinstance(value, bool)
        ]
    elif isinstance(said, Seq):
        found += [
            Finding(
                "error",
                service.name,
                "mixes both forms of environment: `KEY: value` in a list",
                "write KEY=value, or leave the dashes out",
                line=line,
                code="env-mixed",
            )
            for item, line in zip(said, said.lines, strict=True)
            if isinstance(item, Map)
        ]
    return found


def _swarm(service: Service) -> list[Finding]:
    deploy = service.get("deploy")
    if not isinstance(deploy, Map):
        return []
    found = [
        Finding(
            "advice",
            service.name,
            f"deploy.{key} is for Swarm; `docker compose up` does not follow it",
            "take it out; GPUs are chosen by device_ids",
            line=deploy.at(key),
            code="swarm",
        )
        for key in _SWARM
        if key in deploy
    ]
    if deploy.get("mode") == "global":
        found.append(
            Finding(
                "advice",
                service.name,
                "deploy.mode: global is for Swarm",
                "take it out",
                line=deploy.at("mode"),
                code="swarm",
            )
        )
    replicas = deploy.get("replicas", service.get("scale"))
    fixed = [port for port in service.ports if port.host]
    if isinstance(replicas, int) and replicas > 1 and (fixed or service.get("container_name")):
        what = f"port {fixed[0].host}" if fixed else "one container_name"
        found.append(
            Finding(
                "error",
                service.name,
                f"{replicas} replicas cannot share {what}",
                "write one service per replica, each on its own GPU",
                line=deploy.at("replicas"),
                code="replicas",
            )
        )
    return found


def _health_form(service: Service) -> list[Finding]:
    test = service.get("healthcheck", "test")
    if isinstance(test, Seq) and test and str(test[0]) not in ("CMD", "CMD-SHELL", "NONE"):
        return [
            Finding(
                "error",
                service.name,
                f"the healthcheck's list begins with {str(test[0])!r}",
                'begin it with "CMD" or "CMD-SHELL"',
                line=service.at("healthcheck", "test"),
                code="health-form",
            )
        ]
    return []
