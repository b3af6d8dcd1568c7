"""How services hang together: what they wait for, volumes they share, ports that clash."""

from __future__ import annotations

import re

from orchestrator.decide.composecheck.asks import Port
from orchestrator.decide.composecheck.project import Project, apart
from orchestrator.decide.composecheck.service import Service
from orchestrator.decide.composecheck.values import Map, Seq
from orchestrator.decide.finding import Finding

# Proxies and web interfaces, which bear with an engine that is not there yet.
_PATIENT = re.compile(r"nginx|traefik|caddy|haproxy|envoy|webui|prometheus|grafana|openresty|apisix|kong|librechat")


def check(project: Project) -> list[Finding]:
    found = []
    for service in project.services:
        found += _depends(service, project) + _volumes(service, project.raw) + _networks(service)
    return found + _clashes(project.services)


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
        if other.kind == "vllm" and service.kind == "other" and not _waits(how) and not _PATIENT.search(service.image):
            found.append(Finding("advice", service.name, f"starts beside `{name}`, which loads for minutes and refuses "
                                 "connections until then", "condition: service_healthy, and a healthcheck there",
                                 line=line, code="depends-order"))  # fmt: skip
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


def _waits(how: object) -> bool:
    return isinstance(how, Map) and how.get("condition", "service_started") != "service_started"


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


def _clashes(services: tuple[Service, ...]) -> list[Finding]:
    taken: list[tuple[Port, Service]] = []
    found = []
    for service in services:
        for port in service.ports if not service.host_network else ():
            if port.host is None:
                continue
            other = next((one for held, one in taken if _same(held, port) and not apart(one, service)), None)
            if other and (other is service or not service.get("profiles")):
                found.append(
                    Finding("error", service.name, f"publishes port {port.host}, as `{other.name}` does",
                            "publish another port on the left of the colon", line=port.line, code="port-clash"))
            taken.append((port, service))
    return found  # fmt: skip


def _same(one: Port, other: Port) -> bool:
    everywhere = ("", "0.0.0.0", "::", "[::]")
    return one.host == other.host and (one.ip == other.ip or one.ip in everywhere or other.ip in everywhere)


def _networks(service: Service) -> list[Finding]:
    """A service on the host's network has neither ports of its own nor the file's networks."""
    mode, at = service.get("network_mode"), service.at("network_mode")
    found = []
    if mode and service.get("networks"):
        found.append(Finding("error", service.name, "network_mode and networks exclude each other: Compose "
                             "refuses both", "keep one", line=at, code="network-twice"))  # fmt: skip
    if service.host_network and service.ports:
        what = "ports are ignored on the host's network: it listens where its program says"
        found.append(Finding("warning", service.name, what, "take ports out", line=service.at("ports"),
                             code="host-ports"))  # fmt: skip
    return found
