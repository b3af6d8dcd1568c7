"""One look at everything `plan` needs, frozen into Facts. Changes nothing."""

from __future__ import annotations

from urllib.parse import urlsplit

from orchestrator.clients import gpu
from orchestrator.clients.docker import Docker
from orchestrator.clients.ollama import Guarded
from orchestrator.errors import MigrateError, UsageError
from orchestrator.facts import Facts, OllamaContainer
from orchestrator.observe import docker as docker_look
from orchestrator.observe import host as host_look
from orchestrator.observe import ollama as ollama_look

DEFAULT_URL = "http://localhost:11434"
_DISKS = ("/", "/var/lib/docker")


def look(url: str | None, docker: Docker) -> Facts:
    """Freeze the world: Ollama at `url` (default: port 11434, else the Ollama container), GPUs, Docker."""
    docker_facts = docker_look.look(docker)
    usable = not docker_facts.problem
    at, container = _find(url, docker, usable=usable)
    seen = gpu.look()
    # A GPU of another maker is named in the verdict; where NVML has one, it is the one to use.
    gpus = seen.gpus or host_look.amd_gpus()
    return Facts(
        ollama=ollama_look.look(at, container),
        gpus=gpus,
        gpu_problem=seen.problem,
        docker=docker_facts,
        driver=seen.driver,
        host=host_look.look(_DISKS),
        proxy=ollama_look.proxy(at),
    )


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
