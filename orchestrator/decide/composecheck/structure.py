"""What Compose itself refuses or ignores: keys, names that lead nowhere, ports that clash."""

from __future__ import annotations

import difflib

from orchestrator.decide.composecheck.document import Map, Seq
from orchestrator.decide.composecheck.project import Project
from orchestrator.decide.composecheck.service import Service
from orchestrator.decide.finding import Finding

_TOP = ("version", "name", "services", "networks", "volumes", "configs", "secrets", "include", "models")
_KEYS = (  # noqa: SIM905 - a word a line would be long
    "annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command configs container_name "
    "cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus cpuset credential_spec "
    "depends_on deploy develop device_cgroup_rules devices dns dns_opt dns_search domainname entrypoint env_file "
    "environment expose extends external_links extra_hosts gpus group_add healthcheck hostname image init ipc "
    "isolation label_file labels links logging mac_address mem_limit mem_reservation mem_swappiness memswap_limit "
    "models network_mode networks oom_kill_disable oom_score_adj pid pids_limit platform ports post_start pre_stop "
    "privileged profiles provider pull_policy pull_refresh_after read_only restart runtime scale secrets "
    "security_opt shm_size stdin_open stop_grace_period stop_signal storage_opt sysctls tmpfs tty ulimits "
    "use_api_socket user userns_mode uts volumes volumes_from working_dir"
).split()
_SWARM = ("placement", "endpoint_mode", "update_config", "rollback_config")


def check(project: Project) -> list[Finding]:
    found = _top(project.raw)
    for service in project.services:
        found += _keys(service) + _depends(service, project) + _volumes(service, project.raw)
        found += _environment(service) + _swarm(service) + _health_form(service)
    return found + _clashes(project.services)


def _top(raw: Map) -> list[Finding]:
    found = []
    if "version" in raw:
        found.append(
            Finding(
                "advice",
                "version",
                "is obsolete; Compose v2 ignores it and warns",
                "take the line out",
                line=raw.at("version"),
                code="version-key",
            )
        )
    services = raw.get("services")
    if not isinstance(services, Map) or not services:
        lost = sum(isinstance(raw.get(key), (str, Map, Seq)) for key in ("image", "ports", "environment")) > 0
        if not lost and ("include" in raw or "model_list" in raw):
            return found
        found.append(
            Finding(
                "error",
                "services",
                "holds no service" + (": `image` and `ports` stand at the left edge" if lost else ""),
                "indent each service below `services:`, and its keys below its name",
                line=raw.at("services"),
                code="no-services",
            )
        )
        return found
    found += [
        Finding(
            "error",
            name,
            "is no mapping of keys",
            "indent its keys below its name",
            line=services.at(name),
            code="no-mapping",
        )
        for name, body in services.items()
        if not isinstance(body, Map)
    ]
    return found + [
        _unknown(key, raw.at(key), _TOP, "file")
        for key in raw
        if key not in (*_TOP, "model_list", "litellm_settings", "general_settings", "router_settings")
        and not key.startswith("x-")
    ]


def _keys(service: Service) -> list[Finding]:
    found = [
        _unknown(key, service.raw.at(key), _KEYS, service.name)
        for key in service.raw
        if key not in _KEYS and not key.startswith("x-")
    ]
    if not any(key in service.raw for key in ("image", "build", "extends", "provider")):
        found.append(
            Finding(
                "error",
                service.name,
                "has neither image nor build",
                "name its image",
                line=service.line,
                code="no-image",
            )
        )
    return found


def _unknown(key: str, line: int, known: tuple[str, ...] | list[str], where: str) -> Finding:
    near = difflib.get_close_matches(key, known, 1, 0.7)
    fix = f"did you mean {near[0]}?" if near else "take it out, or check its indentation"
    return Finding(
        "error", where, f"Compose knows no key `{key}` here and refuses the file", fix, line=line, code="unknown-key"
    )


def _depends(service: Service, project: Project) -> list[Finding]:
    said = service.get("depends_on")
    names = {str(name): None for name in said} if isinstance(said, Seq) else said if isinstance(said, Map) else {}
    found = []
    for name, how in names.items():
        line = said.at(name) if isinstance(said, Map) else service.at("depends_on")
        other = next((one for one in project.services if one.name == name), None)
        if other is None:
            if "include" not in project.raw:
                found.append(
                    Finding(
                        "error",
                        service.name,
                        f"depends on `{name}`, which is no service of this file",
                        "name the service, not its container",
                        line=line,
                        code="depends-unknown",
                    )
                )
            continue
        healthy = isinstance(how, Map) and how.get("condition") == "service_healthy"
        check_off = other.get("healthcheck", "disable") is True
        if healthy and (not other.get("healthcheck") or check_off) and not other.partial and _plain_image(other):
            found.append(
                Finding(
                    "error",
                    service.name,
                    f"waits for `{name}` to be healthy, which has no healthcheck",
                    f"give `{name}` a healthcheck",
                    line=line,
                    code="depends-no-healthcheck",
                )
            )
    return found


def _plain_image(service: Service) -> bool:
    return service.kind in ("ollama", "vllm")  # neither image brings a healthcheck


def _volumes(service: Service, raw: Map) -> list[Finding]:
    said, top = service.get("volumes"), raw.get("volumes")
    declared = set(top) if isinstance(top, Map) else set()
    found = []
    for item, line in zip(said, said.lines, strict=True) if isinstance(said, Seq) else ():
        name = item.partition(":")[0] if isinstance(item, str) and ":" in item else ""
        if isinstance(item, Map) and item.get("type") == "volume":
            name = str(item.get("source") or "")
        if (
            name
            and not name.startswith((".", "/", "~", "$"))
            and not (len(name) == 1 and name.isalpha())
            and name not in declared
            and "include" not in raw
        ):
            found.append(
                Finding(
                    "error",
                    service.name,
                    f"uses the volume `{name}`, which is not declared",
                    f"add `{name}:` below `volumes:` at the left edge, or write ./{name}",
                    line=line,
                    code="volume-undeclared",
                )
            )
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


def _clashes(services: tuple[Service, ...]) -> list[Finding]:
    taken: dict[int, tuple[str, str]] = {}
    found = []
    for service in services:
        for port in service.ports:
            if port.host is None:
                continue
            ip, other = taken.get(port.host, (port.ip, ""))
            same = ip == port.ip or ip in ("", "0.0.0.0") or port.ip in ("", "0.0.0.0")
            if other and same and not (service.get("profiles")):
                found.append(
                    Finding(
                        "error",
                        service.name,
                        f"publishes port {port.host}, as `{other}` does",
                        "publish another port on the left of the colon",
                        line=port.line,
                        code="port-clash",
                    )
                )
            taken.setdefault(port.host, (port.ip, service.name))
    return found
