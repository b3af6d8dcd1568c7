"""What Docker says about a container, as frozen values; pure functions over the JSON of `docker inspect`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

OLLAMA_PORT = 11434
PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"


@dataclass(frozen=True)
class MountFacts:
    kind: str  # volume, bind, tmpfs
    source: str  # the volume's name, or the path on the host
    target: str
    read_only: bool


@dataclass(frozen=True)
class PortFacts:
    host_ip: str
    host_port: int
    container_port: int


@dataclass(frozen=True)
class GpuRequest:
    driver: str
    count: int  # -1: all
    device_ids: tuple[str, ...]
    capabilities: tuple[str, ...]


@dataclass(frozen=True)
class ContainerFacts:
    id: str
    name: str
    image: str
    image_id: str
    running: bool
    status: str  # created, running, paused, restarting, exited, dead
    digest: str = ""  # repository digest of the image; empty for an image built here
    health: str = ""  # starting, healthy, unhealthy; empty without a healthcheck
    exit_code: int = 0
    oom_killed: bool = False
    command: tuple[str, ...] = ()  # entrypoint and arguments as they run
    env: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold secrets
    labels: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[MountFacts, ...] = ()
    ports: tuple[PortFacts, ...] = ()
    networks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # network -> aliases
    addresses: Mapping[str, str] = field(default_factory=dict)  # network -> IPv4 address
    network_mode: str = "default"
    restart: str = "no"  # as `docker update --restart` takes it
    started_at: str = ""
    pid: int = 0
    gpus: tuple[GpuRequest, ...] = ()
    stop_signal: str = "SIGTERM"

    @property
    def project(self) -> str:
        return self.labels.get(PROJECT_LABEL, "")

    @property
    def service(self) -> str:
        return self.labels.get(SERVICE_LABEL, "")

    def published(self, container_port: int = OLLAMA_PORT) -> tuple[PortFacts, ...]:
        return tuple(port for port in self.ports if port.container_port == container_port)


def container_facts(raw: Mapping[str, Any]) -> ContainerFacts:
    """One element of `docker container inspect` as facts."""
    config, host, state = raw["Config"], raw["HostConfig"], raw["State"]
    networks = raw.get("NetworkSettings", {}).get("Networks") or {}
    return ContainerFacts(
        id=raw["Id"],
        name=raw["Name"].lstrip("/"),
        image=config.get("Image", ""),
        image_id=raw.get("Image", ""),
        running=bool(state.get("Running")),
        status=state.get("Status", ""),
        health=(state.get("Health") or {}).get("Status", ""),
        exit_code=int(state.get("ExitCode") or 0),
        oom_killed=bool(state.get("OOMKilled")),
        command=(raw.get("Path", ""), *(raw.get("Args") or ())),
        env=_environment(config.get("Env") or ()),
        labels=dict(config.get("Labels") or {}),
        mounts=tuple(_mount(one) for one in raw.get("Mounts") or ()),
        ports=_ports(raw),
        networks={name: _aliases(one, raw["Id"]) for name, one in networks.items()},
        addresses={name: one.get("IPAddress", "") for name, one in networks.items() if one.get("IPAddress")},
        network_mode=host.get("NetworkMode", "default"),
        restart=_restart(host.get("RestartPolicy") or {}),
        started_at=state.get("StartedAt", ""),
        pid=int(state.get("Pid") or 0),
        gpus=tuple(_gpu(one) for one in host.get("DeviceRequests") or ()),
        stop_signal=config.get("StopSignal") or "SIGTERM",
    )


def is_ollama(facts: ContainerFacts) -> bool:
    """Whether a container serves as Ollama: by its image's name, or because it runs `ollama serve`."""
    if "ollama/ollama" in facts.image:
        return True
    words = [word.rsplit("/", 1)[-1] for word in facts.command]
    return "ollama" in words and "serve" in words[words.index("ollama") :]


def ollama_port(facts: ContainerFacts) -> int:
    """The port on which Ollama listens inside its container (OLLAMA_HOST may move it)."""
    port = facts.env.get("OLLAMA_HOST", "").rpartition(":")[2].rstrip("/")
    return int(port) if port.isdigit() else OLLAMA_PORT


def _environment(pairs: Iterable[str]) -> dict[str, str]:
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def _mount(raw: Mapping[str, Any]) -> MountFacts:
    source = raw.get("Name") if raw.get("Type") == "volume" else raw.get("Source")
    return MountFacts(raw.get("Type", ""), source or "", raw["Destination"], not raw.get("RW", True))


def _ports(raw: Mapping[str, Any]) -> tuple[PortFacts, ...]:
    """Published TCP ports: those in force while it runs, else those it will have when started."""
    bindings = raw.get("NetworkSettings", {}).get("Ports") or {}
    if not any(bindings.values()):
        bindings = raw["HostConfig"].get("PortBindings") or {}
    found = []
    for inner, outer in bindings.items():
        number, _, protocol = inner.partition("/")
        if protocol in ("", "tcp"):
            found += [
                PortFacts(one.get("HostIp") or "0.0.0.0", int(one["HostPort"]), int(number))
                for one in outer or ()
                if one.get("HostPort")
            ]
    return tuple(found)


def _aliases(network: Mapping[str, Any], container_id: str) -> tuple[str, ...]:
    """Names given by a person or by Compose; Docker's own (the short id) is no name anyone uses."""
    return tuple(name for name in network.get("Aliases") or () if name != container_id[:12])


def _restart(policy: Mapping[str, Any]) -> str:
    name, retries = policy.get("Name") or "no", policy.get("MaximumRetryCount") or 0
    return f"{name}:{retries}" if name == "on-failure" and retries else name


def _gpu(raw: Mapping[str, Any]) -> GpuRequest:
    capabilities = [one for group in raw.get("Capabilities") or () for one in group]
    return GpuRequest(
        raw.get("Driver") or "", int(raw.get("Count") or 0), tuple(raw.get("DeviceIDs") or ()), tuple(capabilities)
    )
