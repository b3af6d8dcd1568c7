"""The Docker Engine: containers, images, volumes and networks, as migrate needs them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.clients.docker.cli import Cli
from orchestrator.clients.docker.compose import Compose
from orchestrator.clients.docker.facts import (
    PROJECT_LABEL,
    SERVICE_LABEL,
    ContainerFacts,
    container_facts,
    is_ollama,
    ollama_port,
)
from orchestrator.clients.docker.ports import listening_process
from orchestrator.errors import MigrateError


@dataclass(frozen=True)
class DockerVersion:
    engine: str
    compose: str  # empty: there is no Compose v2
    api: str


@dataclass(frozen=True)
class RunSpec:
    """What `docker run` is given. Mounts are (source, target, read_only); publish is (host_ip, host, container)."""

    image: str
    command: Sequence[str] = ()
    name: str = ""
    entrypoint: str | None = None
    env: Mapping[str, str] | None = None
    labels: Mapping[str, str] | None = None
    mounts: Sequence[tuple[str, str, bool]] = ()
    publish: Sequence[tuple[str, int, int]] = ()
    network: str = ""
    aliases: Sequence[str] = ()
    cap_add: Sequence[str] = ()
    user: str = ""
    restart: str = ""
    pid: str = ""
    shm_size: str = ""

    def args(self) -> list[str]:
        words = [flag for flag in ("--name", self.name) if self.name]
        for flag, value in (
            ("--entrypoint", self.entrypoint),
            ("--network", self.network),
            ("--user", self.user),
            ("--restart", self.restart),
            ("--pid", self.pid),
            ("--shm-size", self.shm_size),
        ):
            words += [flag, value] if value else []
        words += [word for name, value in (self.env or {}).items() for word in ("--env", f"{name}={value}")]
        words += [word for key, value in (self.labels or {}).items() for word in ("--label", f"{key}={value}")]
        words += [word for one in self.mounts for word in ("--volume", _volume(one))]
        words += [word for one in self.publish for word in ("--publish", _publish(one))]
        words += [word for alias in self.aliases for word in ("--network-alias", alias)]
        words += [word for capability in self.cap_add for word in ("--cap-add", capability)]
        return [*words, self.image, *self.command]


class Docker:
    """One door to the Docker Engine that `docker` on the PATH talks to (DOCKER_HOST and contexts apply)."""

    def __init__(self) -> None:
        self._cli = Cli()

    def version(self) -> DockerVersion | None:
        """Versions of engine, Compose and API; None when Docker is not installed or does not answer."""
        try:
            server = json.loads(self._cli.docker("version", "--format", "{{json .Server}}"))
        except MigrateError:
            return None
        try:
            compose = self._cli.docker("compose", "version", "--short").strip()
        except MigrateError:
            compose = ""
        return DockerVersion(server.get("Version", ""), compose, server.get("ApiVersion", ""))

    def require(self) -> DockerVersion:
        """Like version(), but a Docker that is missing or silent, or has no Compose v2, is a MigrateError."""
        self._cli.docker("version", "--format", "{{.Server.Version}}")
        self._cli.docker("compose", "version", "--short")
        found = self.version()
        if found is None:
            raise MigrateError("Docker stopped answering")
        return found

    def compose(self, project: str, directory: Path, files: Sequence[Path], env_files: Sequence[Path] = ()) -> Compose:
        return Compose(project, directory, files, env_files)

    # Containers

    def containers(
        self, *, project: str = "", service: str = "", labels: Mapping[str, str] | None = None, running: bool = False
    ) -> list[ContainerFacts]:
        """Containers by Compose project, service or labels; stopped ones included unless `running`."""
        wanted = {**(labels or {}), **({PROJECT_LABEL: project} if project else {})}
        wanted |= {SERVICE_LABEL: service} if service else {}
        filters = [word for key, value in wanted.items() for word in ("--filter", f"label={key}={value}")]
        ids = self._cli.docker("ps", "--quiet", "--no-trunc", *([] if running else ["--all"]), *filters).split()
        return [facts for one in ids if (facts := self.find(one))]  # one by one: a container may go meanwhile

    def ollamas(self) -> list[ContainerFacts]:
        """Running containers that serve as Ollama and publish its port."""
        return [
            facts for facts in self.containers(running=True) if is_ollama(facts) and facts.published(ollama_port(facts))
        ]

    def find(self, container: str) -> ContainerFacts | None:
        """Facts of a container by name or id, or None when there is no such container."""
        try:
            raw: list[dict[str, Any]] = json.loads(self._cli.docker("container", "inspect", container))
        except MigrateError as error:
            if "no such container" in error.evidence.lower():
                return None
            raise
        return container_facts(raw[0])

    def inspect(self, container: str) -> ContainerFacts:
        """Like find(), with the image's digest; MigrateError when there is no such container."""
        facts = self.find(container)
        if facts is None:
            raise MigrateError(f"There is no container {container}", hint="See them all: docker ps --all")
        return replace(facts, digest=self.image_digest(facts.image_id))

    def port_holder(self, port: int) -> str:
        """Who listens on a TCP port of this host: a container by its name, else a process; empty when nobody does."""
        names = self._cli.docker("ps", "--filter", f"publish={port}", "--format", "{{.Names}}").split()
        return f"container {names[0]}" if names else listening_process(port)

    def run(self, spec: RunSpec) -> str:
        """Starts a container in the background; its id. The image must be here (nothing is pulled)."""
        return self._cli.docker("run", "--detach", "--pull", "never", *spec.args()).strip()

    def run_once(self, spec: RunSpec) -> str:
        """Runs a container to its end and removes it; its standard output. MigrateError when it fails."""
        return self._cli.docker("run", "--rm", "--pull", "never", *spec.args())

    def run_lines(self, spec: RunSpec) -> Iterator[str]:
        """Runs a container to its end and removes it, yielding its standard output by lines as they come."""
        for source, line in self._cli.docker_lines("run", "--rm", "--pull", "never", *spec.args()):
            if source == "stdout":
                yield line

    def start(self, container: str) -> None:
        self._cli.docker("start", container)

    def stop(self, container: str, grace_s: int | None = None) -> None:
        """Sends the stop signal, waits grace_s seconds (default: the container's own), then kills."""
        self._cli.docker("stop", *(["-t", grace_s] if grace_s is not None else []), container)

    def kill(self, container: str, signal: str = "KILL") -> None:
        self._cli.docker("kill", "--signal", signal, container)

    def rename(self, container: str, name: str) -> None:
        self._cli.docker("rename", container, name)

    def set_restart(self, container: str, policy: str) -> None:
        """Changes the restart policy of a container without re-creating it."""
        self._cli.docker("update", "--restart", policy, container)

    def remove(self, container: str) -> None:
        """Removes a container, running or not, with its anonymous volumes; fine when there is none."""
        try:
            self._cli.docker("rm", "--force", "--volumes", container)
        except MigrateError as refused:
            if "already in progress" not in refused.evidence:
                raise
            self._wait_gone(container)

    def _wait_gone(self, container: str, seconds: float = 15) -> None:
        until = time.monotonic() + seconds
        while self.find(container) is not None:
            if time.monotonic() > until:
                raise MigrateError(f"Docker has been removing the container {container} for {seconds:.0f} s")
            time.sleep(0.1)

    def logs(self, container: str, *, since: str = "", tail: int | None = None) -> list[str]:
        """Log lines of a container, both streams; `since` as Docker takes it (timestamp or 10m)."""
        args = [*(["--since", since] if since else []), *(["--tail", str(tail)] if tail is not None else [])]
        return [line for _, line in self._cli.docker_lines("logs", *args, container)]

    def log_lines(self, container: str, *, tail: int) -> Iterator[str]:
        """Yield the last `tail` lines of both streams, each with the time at which Docker got it."""
        for _, line in self._cli.docker_lines("logs", "--timestamps", "--tail", str(tail), container):
            yield line

    def exec(self, container: str, command: Sequence[str]) -> str:
        return self._cli.docker("exec", container, *command)

    # Images

    def image_exists(self, image: str) -> bool:
        return bool(self._cli.docker("image", "ls", "--quiet", "--filter", f"reference={image}").strip()) or (
            self._try("image", "inspect", "--format", "{{.Id}}", image) is not None
        )

    def image_digest(self, image: str) -> str:
        """The repository digest (name@sha256:…); empty when the image was built here or is gone."""
        found = self._try("image", "inspect", "--format", "{{json .RepoDigests}}", image)
        return next(iter(json.loads(found or "[]") or []), "")

    def image_env(self, image: str) -> dict[str, str]:
        """The environment that an image sets by itself; empty when the image is gone."""
        found = self._try("image", "inspect", "--format", "{{json .Config.Env}}", image)
        pairs = (pair.partition("=") for pair in json.loads(found or "null") or ())
        return {name: value for name, _, value in pairs}

    def image_pull(self, image: str) -> Iterator[str]:
        """Pulls an image; yields Docker's progress lines."""
        return (line for _, line in self._cli.docker_lines("pull", image))

    def image_build(
        self, context: Path, tag: str, *, args: Mapping[str, str] | None = None, dockerfile: Path | None = None
    ) -> Iterator[str]:
        """Builds an image; yields the builder's lines."""
        words = [word for key, value in (args or {}).items() for word in ("--build-arg", f"{key}={value}")]
        words += ["--file", str(dockerfile)] if dockerfile else []
        return (line for _, line in self._cli.docker_lines("build", "--tag", tag, *words, context))

    # Volumes

    def volumes(self, project: str) -> list[str]:
        """Names of the volumes of a Compose project."""
        return self._cli.docker("volume", "ls", "--quiet", "--filter", f"label={PROJECT_LABEL}={project}").split()

    def volume_bytes(self) -> dict[str, int]:
        """Bytes on disk by volume name, as Docker counts them (it walks the files: seconds on large ones)."""
        found = json.loads(self._cli.docker("system", "df", "--verbose", "--format", "{{json .Volumes}}") or "[]")
        return {one["Name"]: _bytes(one.get("Size", "")) for one in found or ()}

    def volume_remove(self, volume: str) -> None:
        self._cli.docker("volume", "rm", volume)

    # Networks

    def network_create(self, network: str, labels: Mapping[str, str] | None = None) -> None:
        words = [word for key, value in (labels or {}).items() for word in ("--label", f"{key}={value}")]
        self._cli.docker("network", "create", *words, network)

    def network_remove(self, network: str) -> None:
        self._cli.docker("network", "rm", network)

    def connect(self, network: str, container: str, aliases: Sequence[str] = ()) -> None:
        words = [word for alias in aliases for word in ("--alias", alias)]
        self._cli.docker("network", "connect", *words, network, container)

    def gateway_address(self, network: str = "bridge") -> str:
        """The host's own IPv4 address on a Docker network; empty when it has none."""
        raw = json.loads(self._cli.docker("network", "inspect", network))
        return next((one.get("Gateway", "") for one in raw[0]["IPAM"]["Config"] or () if one.get("Gateway")), "")

    def _try(self, *args: object) -> str | None:
        try:
            return self._cli.docker(*args)
        except MigrateError:
            return None


_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def _bytes(size: str) -> int:
    """'1.5GB', as Docker prints sizes, in bytes; 0 when it says N/A."""
    number = size.rstrip("BkKMGT")
    unit = size[len(number) :].upper()
    return round(float(number) * _UNITS[unit]) if unit in _UNITS and number else 0


def _volume(mount: tuple[str, str, bool]) -> str:
    source, target, read_only = mount
    return f"{source}:{target}:ro" if read_only else f"{source}:{target}"


def _publish(port: tuple[str, int, int]) -> str:
    ip, outer, inner = port
    if not ip:
        return f"{outer}:{inner}"
    return f"[{ip}]:{outer}:{inner}" if ":" in ip else f"{ip}:{outer}:{inner}"
