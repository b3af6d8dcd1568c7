"""What Compose itself refuses: a file without services, keys that it does not know."""

from __future__ import annotations

import difflib

from orchestrator.decide.composecheck.project import Project
from orchestrator.decide.composecheck.service import Service
from orchestrator.decide.composecheck.values import Map, Seq
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


# Keys that are often one step too far to the left, and where they belong.
_BELOW = {
    "resources": "deploy:", "reservations": "deploy: resources:", "limits": "deploy: resources:",
    "device_ids": "deploy: resources: reservations: devices:",
    "capabilities": "deploy: resources: reservations: devices:",
    "test": "healthcheck:", "interval": "healthcheck:", "start_period": "healthcheck:",
    "condition": "depends_on: SERVICE:",
}  # fmt: skip


def check(project: Project) -> list[Finding]:
    found = _top(project.raw)
    for service in project.services:
        found += _keys(service)
    return found


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
    if "apiVersion" in raw and "kind" in raw:
        return [Finding("error", "file", f"is for Kubernetes (kind: {str(raw['kind'])[:40]}), no Compose file",
                        "give a Compose file: it begins with `services:`", line=raw.at("kind"),
                        code="kubernetes")]  # fmt: skip
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
                "name its image; what is laid over another file is checked with it: --compose BASE --compose THIS",
                line=service.line,
                code="no-image",
            )
        )
    return found


def _unknown(key: str, line: int, known: tuple[str, ...] | list[str], where: str) -> Finding:
    if key in _BELOW:
        fix = f"indent it below {_BELOW[key]}"
        return Finding("error", where, f"Compose knows no key `{key}` here and refuses the file", fix, line=line,
                       code="unknown-key")  # fmt: skip
    near = difflib.get_close_matches(key, known, 1, 0.7)
    fix = f"did you mean {near[0]}?" if near else "take it out, or check its indentation"
    return Finding(
        "error", where, f"Compose knows no key `{key}` here and refuses the file", fix, line=line, code="unknown-key"
    )
