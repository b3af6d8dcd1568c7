"""One look at everything `plan` needs, frozen into Facts. Changes nothing."""

from __future__ import annotations

import os
from dataclasses import replace
from urllib.parse import urlsplit

from orchestrator.clients import gpu
from orchestrator.clients.docker import Docker
from orchestrator.clients.docker.info import info
from orchestrator.clients.ollama import Guarded
from orchestrator.errors import MigrateError, UsageError
from orchestrator.facts import DockerFacts, Facts, Gpu, Host, OllamaContainer, OllamaFacts
from orchestrator.observe import docker as docker_look
from orchestrator.observe import host as host_look
from orchestrator.observe import ollama as ollama_look

DEFAULT_URL = "http://localhost:11434"


def look(url: str | None, docker: Docker) -> Facts:
    """Freeze the world: Ollama at `url` (default: port 11434, else the Ollama container), GPUs, Docker."""
    found = machine(docker)
    usable = found.docker is not None and not found.docker.problem
    at, container = _find(url, docker, usable=usable)
    return replace(found, ollama=ollama_look.look(at, container), proxy=ollama_look.proxy(at))


def machine(docker: Docker) -> Facts:
    """Freeze GPUs, Docker and host, with an Ollama that nobody asked. Never raises."""
    docker_facts = docker_look.look(docker)
    host = host_look.look(_disks(docker_facts))
    seen = gpu.look()
    problem = seen.problem
    if problem and (hint := host_look.nvidia_hint()):
        problem = f"{problem}; {hint}"
    # A GPU of another maker is named in the verdict; where NVML has one, it is the one to use.
    gpus = tuple(_shared(one, host) for one in seen.gpus) or host_look.amd_gpus()
    return Facts(
        OllamaFacts(url="", version=""), gpus=gpus, gpu_problem=problem, docker=docker_facts, driver=seen.driver,
        cuda=seen.cuda, host=host, gpu_notes=seen.notes,
    )  # fmt: skip


def _shared(one: Gpu, host: Host) -> Gpu:
    """Return a GPU with the host's memory where it has none of its own."""
    return replace(one, total=host.ram or 0, free=host.ram_free or host.ram or 0) if one.unified else one


def _disks(docker: DockerFacts) -> tuple[str, ...]:
    """Return where weights and images will lie: Docker's own folder, and the system's where this is not known."""
    away = os.environ.get("DOCKER_HOST", "").startswith(("ssh:", "tcp:", "http:", "https:"))
    root = "" if docker.problem or away else str(info().get("DockerRootDir") or "")
    return ("/", root or "/var/lib/docker")


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:      # brackets that do not match, a port out of range
        return False


def _find(url: str | None, docker: Docker, *, usable: bool) -> tuple[str, OllamaContainer | None]:
    if url is not None:
        if not _is_url(url):
            raise UsageError(f"{url!r} is not a URL", hint="such as: migrate plan --ollama http://127.0.0.1:11434")
        return url.rstrip("/"), docker_look.container_at(docker, url) if usable else None
    guarded: Guarded | None = None
    try:
        if ollama_look.answers(DEFAULT_URL):
            return DEFAULT_URL, docker_look.container_at(docker, DEFAULT_URL) if usable else None
    except Guarded as refusal:
        guarded = refusal
    container = docker_look.running_ollama(docker) if usable else None
    if container is None and guarded:
        raise guarded
    if container is None:
        raise MigrateError(
            "Ollama is not running: nothing answers on port 11434, and no Ollama container runs here",
            hint="start it (ollama serve, or docker start ollama), or name it: migrate plan --ollama URL",
        )
    host = "127.0.0.1" if container.listen in ("0.0.0.0", "") else container.listen
    return f"http://{host}:{container.port}", container
