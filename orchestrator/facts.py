"""What is: one frozen look at the world. No I/O; everything here can be written to JSON and read back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Model:
    """One installed Ollama model, from /api/tags and /api/show."""

    name: str
    size: int = 0                   # bytes on disk
    digest: str = ""
    family: str = ""
    parameter_size: str = ""
    quantization: str = ""
    format: str = "gguf"
    capabilities: tuple[str, ...] = ()
    system: str | None = None
    template: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    messages: tuple[dict[str, str], ...] = ()
    architecture: dict[str, Any] = field(default_factory=dict)   # model_info of /api/show
    parent: str = ""
    remote_host: str | None = None
    modified_at: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return "embedding" if "embedding" in self.capabilities else "generate"


@dataclass(frozen=True, slots=True)
class Loaded:
    """One line of /api/ps; sizes in bytes. size_vram < size means that Ollama spilled to the CPU."""

    name: str
    size: int
    size_vram: int
    context_length: int = 0

    @property
    def spilled(self) -> bool:
        return 0 < self.size_vram < self.size


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA GPU as NVML reports it; sizes in bytes."""

    index: str
    uuid: str
    name: str
    total: int
    free: int
    compute_capability: float
    processes: int = 0


@dataclass(frozen=True, slots=True)
class OllamaContainer:
    """The existing Ollama when it runs in this Docker Engine."""

    name: str
    id: str
    image: str
    listen: str
    port: int
    env: dict[str, str] = field(default_factory=dict)     # without what the image sets, and without secrets
    withheld: tuple[str, ...] = ()                        # names of variables that look like secrets
    volumes: tuple[str, ...] = ()
    networks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    gpus: tuple[str, ...] | None = None     # None: no reservation
    restart: str = "no"
    compose_project: str | None = None


@dataclass(frozen=True, slots=True)
class OllamaFacts:
    url: str
    version: str
    models: tuple[Model, ...] = ()
    loaded: tuple[Loaded, ...] = ()
    container: OllamaContainer | None = None


@dataclass(frozen=True, slots=True)
class DockerFacts:
    engine: str
    compose: str
    problem: str = ""       # why Docker cannot be used, if it cannot


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that `plan` looks at, once."""

    ollama: OllamaFacts
    gpus: tuple[Gpu, ...] = ()
    gpu_problem: str = ""   # why there is none; a fact, not an error
    docker: DockerFacts | None = None
    driver: str = ""
