"""Looks at Docker: versions, and the container that is today's Ollama. Changes nothing."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from orchestrator.clients.docker import PROJECT_LABEL, ContainerFacts, Docker, ollama_port
from orchestrator.errors import MigrateError, UsageError
from orchestrator.facts import DockerFacts, OllamaContainer

SECRET = re.compile(
    r"(^|_)(API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|PASS|PWD|AUTH|AUTHORIZATION|CREDENTIALS?)(_ID)?$",
    re.IGNORECASE,
)
WITH_PASSWORD = re.compile(r"://[^/\s@]*:[^/\s@]+@")     # such as a proxy's URL
# Set anew by the stack.
OURS = frozenset({"OLLAMA_HOST", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"})


def look(docker: Docker) -> DockerFacts:
    """Return versions, or why Docker cannot be used; never raises."""
    try:
        found = docker.require()
    except MigrateError as error:
        version = _versions(docker)
        return DockerFacts(version[0], version[1], problem=error.message)
    return DockerFacts(found.engine, found.compose)


def _versions(docker: Docker) -> tuple[str, str]:
    try:
        found = docker.version()
    except MigrateError:
        return "", ""
    return (found.engine, found.compose) if found else ("", "")


def container_at(docker: Docker, url: str) -> OllamaContainer | None:
    """Return the container that publishes the port of `url` on this machine, if one does."""
    parts = urlsplit(url)
    if not is_local(parts.hostname or ""):
        return None
    port = parts.port or 80
    for facts in docker.containers(running=True):
        if facts.labels.get("org.migrate.stack"):
            continue
        for published in facts.ports:
            if published.host_port == port and published.container_port == ollama_port(facts):
                return _container(docker, facts, published.host_ip, port)
    return None


def running_ollama(docker: Docker) -> OllamaContainer | None:
    """Return the only running Ollama container of this engine; raises UsageError when there are several."""
    found = [one for one in docker.ollamas() if not one.labels.get("org.migrate.stack")]
    if len(found) > 1:
        names = ", ".join(one.name for one in found)
        raise UsageError(f"several Ollama containers run here: {names}", hint="name one: migrate plan --ollama URL")
    if not found:
        return None
    published = found[0].published(ollama_port(found[0]))[0]
    return _container(docker, found[0], published.host_ip, published.host_port)


def is_local(host: str) -> bool:
    """Whether a host name of a URL means this machine."""
    if host in ("localhost", ""):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _container(docker: Docker, facts: ContainerFacts, listen: str, port: int) -> OllamaContainer:
    # What the image sets itself comes with the image.
    preset = docker.image_env(facts.image_id)
    env = {name: value for name, value in facts.env.items() if preset.get(name) != value and name not in OURS}
    return OllamaContainer(
        name=facts.name,
        id=facts.id,
        image=facts.image,
        listen=listen,
        port=port,
        env={name: value for name, value in env.items() if not _secret(name, value)},
        withheld=tuple(sorted(name for name, value in env.items() if _secret(name, value))),
        volumes=tuple(
            f"{mount.source}:{mount.target}{':ro' if mount.read_only else ''}"
            for mount in facts.mounts
            if mount.kind in ("volume", "bind")
        ),
        # Neighbours find it by its container's name as well as by its aliases.
        networks={
            name: tuple(dict.fromkeys((facts.name, *names)))
            for name, names in facts.networks.items()
            if name not in ("bridge", "host", "none")
        },
        gpus=_gpus(facts),
        restart=facts.restart,
        compose_project=facts.labels.get(PROJECT_LABEL),
    )


def _secret(name: str, value: str) -> bool:
    return bool(SECRET.search(name) or WITH_PASSWORD.search(value))


def _gpus(facts: ContainerFacts) -> tuple[str, ...] | None:
    if not facts.gpus:
        return None
    return tuple(device for request in facts.gpus for device in request.device_ids) or ("all",)
