"""Values in a form that Compose refuses, ignores, or reads otherwise than it was meant."""

from __future__ import annotations

from orchestrator.decide.composecheck.project import Project
from orchestrator.decide.composecheck.service import Service
from orchestrator.decide.composecheck.values import Map, Seq
from orchestrator.decide.finding import Finding

_LISTS = ("ports", "volumes", "devices", "expose", "profiles", "cap_add", "security_opt")
_DURATIONS = ("interval", "timeout", "start_period", "start_interval")
_SWARM = ("placement", "endpoint_mode", "update_config", "rollback_config")


def check(project: Project) -> list[Finding]:
    found = []
    for service in project.services:
        found += _environment(service) + _texts(service) + _lists(service) + _durations(service)
        found += _swarm(service) + _health_form(service) + _capabilities(service)
    return found


def _environment(service: Service) -> list[Finding]:
    said = service.get("environment")
    found = []
    if isinstance(said, Map):
        found += [
            Finding(
                "advice",
                service.name,
                f"{key} is a boolean, which older releases of Compose refuse",
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


def _texts(service: Service) -> list[Finding]:
    """Items `KEY=value` are taken letter by letter: quotes and blanks belong to the value."""
    said = service.get("environment")
    found = []
    for item, at in zip(said, said.lines, strict=True) if isinstance(said, Seq) else ():
        key, equals, value = item.partition("=") if isinstance(item, str) else ("", "", "")
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
        # Ollama takes quotes off its own variables.
        if quoted and not key.startswith("OLLAMA_"):
            found.append(Finding("error", service.name, f"the quotes become part of {key}", f"{key}=value, "
                                 "without quotes", line=at, code="env-quotes"))  # fmt: skip
        elif equals and (key != key.strip() or value != value.lstrip()):
            found.append(Finding("error", service.name, f"the blanks around = become part of {key.strip()}",
                                 f"write {key.strip()}=value", line=at, code="env-blanks"))  # fmt: skip
    return found


def _lists(service: Service) -> list[Finding]:
    return [
        Finding("error", service.name, f"{key} is no list; Compose refuses the file", f"write {key} with dashes",
                line=service.at(key), code="not-a-list")
        for key in _LISTS
        if service.get(key) is not None and not isinstance(service.get(key), Seq)
    ]  # fmt: skip


def _durations(service: Service) -> list[Finding]:
    places = [("stop_grace_period",), *(("healthcheck", key) for key in _DURATIONS)]
    found = []
    for place in places:
        value = service.get(*place)
        if isinstance(value, (int, float)) or (isinstance(value, str) and value.strip().isdigit()):
            found.append(Finding("error", service.name, f"{place[-1]}: {value} has no unit; Compose refuses the file",
                                 f"{place[-1]}: {value}s", line=service.at(*place), code="duration"))  # fmt: skip
    return found


def _capabilities(service: Service) -> list[Finding]:
    devices = service.get("deploy", "resources", "reservations", "devices")
    return [
        Finding("error", service.name, "capabilities is no list of words", "capabilities: [gpu]",
                line=one.at("capabilities"), code="capabilities")
        for one in (devices if isinstance(devices, Seq) else ())
        if (isinstance(one, Map) and "capabilities" in one and not one["capabilities"]) or
        (isinstance(one, Map) and isinstance(one.get("capabilities"), str))
    ]  # fmt: skip


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
    if not isinstance(test, Seq) or not test:
        return []
    at = service.at("healthcheck", "test")
    words = [str(one) for one in test if not isinstance(one, (Map, Seq))]
    if words[:1] and words[0] not in ("CMD", "CMD-SHELL", "NONE"):
        return [Finding("error", service.name, f"the healthcheck's list begins with {words[0]!r}",
                        'begin it with "CMD" or "CMD-SHELL"', line=at, code="health-form")]  # fmt: skip
    operator = next((word for word in words[1:] if word in ("||", "&&", "|", ";")), "")
    if words[:1] == ["CMD"] and operator:
        return [Finding("error", service.name, f"the healthcheck hands {operator} to its program: CMD knows no shell",
                        'take "CMD-SHELL" and one string, or leave it out', line=at, code="health-shell")]  # fmt: skip
    return []
