"""How services hang together: what they wait for, volumes they share, ports that clash."""

from __future__ import annotations

from orchestrator.decide.composecheck.document import Map, Seq
from orchestrator.decide.composecheck.project import Project
from orchestrator.decide.composecheck.service import Service
from orchestrator.decide.finding import Finding


def check(project: Project) -> list[Finding]:
    found = []
    for service in project.services:
        found += _depends(service, project) + _volumes(service, project.raw)
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
