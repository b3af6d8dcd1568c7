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
class Holder:
    """A process that holds memory of a GPU; `bytes` is None where the driver does not tell (WSL2, containers)."""

    pid: int
    name: str = ""
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA GPU, or one MIG instance of it, as NVML reports it; sizes in bytes.

    `total` is what CUDA programs see: without what driver and ECC reserve, which `reserved` holds.
    """

    index: str
    uuid: str
    name: str
    total: int
    free: int
    compute_capability: float
    processes: int = 0
    mig: bool = False           # this is a MIG instance, not a whole GPU
    display: bool = False       # a screen hangs on it: its use of memory moves
    vendor: str = "nvidia"      # or amd, apple: seen, not used
    profile: str = ""           # of a MIG instance, such as 3g.40gb
    parent: str = ""            # of a MIG instance: the UUID of the whole GPU
    reserved: int = 0           # what driver and ECC keep
    unified: bool = False       # shares its memory with the host (GB10, Jetson)
    holders: tuple[Holder, ...] = ()


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
class Host:
    """The machine itself; sizes in bytes, None where it could not be seen."""

    system: str = ""            # Linux, Darwin, Windows
    machine: str = ""           # x86_64, arm64
    wsl: bool = False
    ram: int | None = None
    ram_free: int | None = None
    shm: int | None = None
    disk_free: dict[str, int] = field(default_factory=dict)     # path -> bytes on its mount
    cpus: int | None = None
    open_files: int | None = None       # soft limit of file descriptors
    ram_limit: int | None = None        # a control group's limit below the machine's RAM; `ram` is then this


@dataclass(frozen=True, slots=True)
class Spread:
    """Order statistics of one quantity (nearest rank); None where n is too small to say."""

    n: int = 0
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    peak: float | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """What callers really did, and how we know. Times in seconds, shares 0-1; health probes are left out."""

    source: str = "none"        # log, watch, stated, none
    origin: str = ""            # file or container, for the report
    begin: str = ""             # ISO 8601, the first request's start
    end: str = ""
    seconds: float = 0.0        # observed span
    requests: int = 0           # inference requests
    probes: int = 0             # health probes left out
    other: int = 0              # listings, pulls, and the like
    concurrency: Spread = field(default_factory=Spread)     # offered, by overlap; p95 weighted by time while busy
    seconds_above: dict[str, float] = field(default_factory=dict)   # "3" -> seconds with more than 3 at once
    peak_by_hour: dict[str, int] = field(default_factory=dict)      # "09" -> peak in that hour of the day
    latency: Spread = field(default_factory=Spread)
    over_30s: float = 0.0       # share of inference requests
    errors: int = 0             # status 400 and above, cancelled ones apart
    busy: int = 0               # status 503
    cancelled: int = 0          # status 499
    requests_per_minute: float = 0.0    # highest minute
    callers: dict[str, int] = field(default_factory=dict)           # address -> inference requests
    paths: dict[str, int] = field(default_factory=dict)             # path -> requests
    native: float | None = None         # share of inference requests on /api/*; the rest on /v1
    prompt_tokens: Spread = field(default_factory=Spread)
    output_tokens: Spread = field(default_factory=Spread)
    sampling: dict[str, dict[str, int]] = field(default_factory=dict)   # option -> value -> requests
    models: dict[str, int] | None = None        # use per model; None: nothing in the evidence tells
    largest_context: int | None = None          # largest n_ctx_slot or num_ctx seen
    truncated: int = 0          # prompts that Ollama cut silently
    queue_hours_per_week: float | None = None   # waiting beyond what Ollama answers at once, per 7 days
    lines: int = 0
    skipped: dict[str, int] = field(default_factory=dict)   # why a line was not understood -> count
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Caller:
    """One place in source or configuration that talks to Ollama."""

    path: str
    line: int
    kind: str           # url, port, sdk, native, env
    text: str
    works: bool         # unchanged behind the gateway
    note: str = ""


@dataclass(frozen=True, slots=True)
class HubFact:
    """One repository as it was seen. `state` is one of decide/hubfact.py's words; `said` is the sentence for users.

    weights: bytes of its safetensors files, None where nobody told; config: its config.json, empty if unread.
    """

    repo: str
    state: str
    said: str
    config: dict[str, Any] = field(default_factory=dict)
    weights: int | None = None
    cached: bool = False


@dataclass(frozen=True, slots=True)
class DockerFacts:
    engine: str
    compose: str
    problem: str = ""       # why Docker cannot be used, if it cannot


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """A LoRA adapter that the stack file names. `config`: its adapter_config.json, as far as it matters."""

    engine: str
    name: str
    where: str                  # directory or repository, as the file says it
    config: dict[str, Any] = field(default_factory=dict)
    size: int | None = None     # bytes of its weights
    tensors: dict[str, tuple[int, ...]] = field(default_factory=dict)   # module -> rank, in, out; where they were read
    problem: str = ""           # why it cannot be served, if that was seen
    doubt: str = ""             # why nobody looked


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that `plan` looks at, once."""

    ollama: OllamaFacts
    gpus: tuple[Gpu, ...] = ()
    gpu_problem: str = ""   # why there is none; a fact, not an error
    docker: DockerFacts | None = None
    driver: str = ""
    cuda: str = ""          # newest CUDA that the driver runs, such as 12.8
    host: Host = field(default_factory=Host)
    traffic: Traffic = field(default_factory=Traffic)
    callers: tuple[Caller, ...] = ()
    scanned: int | None = None          # files that were read for `callers`; None: nobody looked
    gpu_notes: tuple[str, ...] = ()     # what NVML said of GPUs that are not listed, or not as they seem
    proxy: str = ""         # what stands in front of Ollama with authentication, if that was noticed
    hub: tuple[HubFact, ...] = ()       # the repositories that were looked at; empty: not checked
    adapters: tuple[AdapterFacts, ...] = ()
