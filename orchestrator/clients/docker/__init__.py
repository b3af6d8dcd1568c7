"""Everything migrate does with Docker passes through this package; nothing else imports python-on-whales."""

from __future__ import annotations

from orchestrator.clients.docker.compose import Compose
from orchestrator.clients.docker.engine import Docker, DockerVersion, RunSpec
from orchestrator.clients.docker.facts import (
    OLLAMA_PORT,
    PROJECT_LABEL,
    SERVICE_LABEL,
    ContainerFacts,
    GpuRequest,
    MountFacts,
    PortFacts,
    container_facts,
    is_ollama,
    ollama_port,
)

__all__ = [
    "OLLAMA_PORT",
    "PROJECT_LABEL",
    "SERVICE_LABEL",
    "Compose",
    "ContainerFacts",
    "Docker",
    "DockerVersion",
    "GpuRequest",
    "MountFacts",
    "PortFacts",
    "RunSpec",
    "container_facts",
    "is_ollama",
    "ollama_port",
]
