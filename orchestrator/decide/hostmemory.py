"""Memory of the host and of /dev/shm that the engines need; pure arithmetic over facts.

vLLM maps its safetensors files and copies them tensor by tensor, so a load needs one large file's worth of page
cache to be quick and about 4 GiB per process to be possible. Ranks talk through shared memory. Sleep level 1 keeps
the weights in host memory; offloading of weights or cache to the CPU takes what it was told to take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.decide.engine_memory import GIB, Ask, gib
from orchestrator.decide.vllm_flags import Option, read
from orchestrator.facts import Host

PROCESS = 4 * GIB           # Python, torch and CUDA libraries of one rank
SERVER = 2 * GIB            # API server with tokenizer
SYSTEM = 2 * GIB            # stays for the host itself
SHM_ONE = 1 * GIB           # what a rendered container gets without tensor parallelism
SHM_RANKS = 8 * GIB         # and with it: NCCL's and vLLM's own queues


@dataclass(frozen=True, slots=True)
class Wish:
    """What one engine wants of the host besides its GPUs; bytes."""

    ask: Ask
    sleeps: bool = False    # --enable-sleep-mode: level 1 holds the weights in host memory
    cpu_offload: int = 0    # --cpu-offload-gb, per rank
    kv_offload: int = 0     # --kv-offloading-size, whole engine

    @property
    def ranks(self) -> int:
        return max(1, self.ask.tensor_parallel)

    @property
    def ram(self) -> int:
        """Bytes of RAM that stay taken while the engine runs."""
        asleep = self.ask.weights() * self.ranks if self.sleeps else 0
        return SERVER + PROCESS * self.ranks + asleep + self.cpu_offload * self.ranks + self.kv_offload

    @property
    def shm(self) -> int:
        return SHM_RANKS if self.ranks > 1 else SHM_ONE


def wish(ask: Ask, args: Sequence[str]) -> Wish:
    """Return what an engine wants of the host, from its user's own flags; the last of each counts."""
    line = read(args)
    sleep = line.get("--enable-sleep-mode")
    return Wish(
        ask, sleep is not None and not sleep.word.startswith("--no-"),
        _bytes(line.get("--cpu-offload-gb")), _bytes(line.get("--kv-offloading-size")),
    )  # fmt: skip


def _bytes(option: Option | None) -> int:
    try:
        size = float(option.value or "") if option else 0.0
    except ValueError:
        return 0
    return int(size * GIB) if 0 < size < 1e6 else 0


@dataclass(frozen=True, slots=True)
class HostBudget:
    """What the engines need of the host, and what is wrong with that."""

    ram: int
    shm: int
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"host: {gib(self.ram)} RAM for engines and Ollama, {gib(self.shm)} shared memory"


def host_budget(host: Host, wishes: tuple[Wish, ...], ollama_cpu: int = 0, *, host_ipc: bool = False) -> HostBudget:
    """Weigh what the engines want against the host.

    `ollama_cpu`: bytes of models that Ollama keeps on the CPU. `host_ipc`: containers use the host's /dev/shm
    instead of a size of their own. Unknown sizes of the host are never a problem, only said.
    """
    ram = sum(one.ram for one in wishes) + ollama_cpu
    # A container's /dev/shm is memory too, taken as it fills.
    shm = sum(one.shm for one in wishes)
    problems, warnings = [], []
    if host.ram is None:
        warnings.append("the host's RAM could not be seen: not checked")
    elif ram + SYSTEM > host.ram:
        most = max(wishes, key=lambda one: one.ram).ask.name if wishes else "Ollama"
        problems.append(
            f"engines and Ollama need {gib(ram)} of RAM and the host {gib(SYSTEM)}; it has {gib(host.ram)} "
            f"(most for {most}): fewer engines, no sleep mode, less offloading, or more RAM"
        )
    elif host.ram_free is not None and ram > host.ram_free:
        warnings.append(f"{gib(ram)} of RAM is needed and {gib(host.ram_free)} is free now: the host would swap")
    largest = max((one.ask.weights() for one in wishes), default=0)
    if host.ram is not None and largest > host.ram:
        warnings.append(f"weights of {gib(largest)} do not fit the page cache of {gib(host.ram)}: loading is slow")
    if host_ipc and host.shm is not None and shm > host.shm:
        problems.append(
            f"the host's shared memory (/dev/shm) is {gib(host.shm)}, the engines want {gib(shm)}: give each "
            "container shm_size instead of ipc: host, or mount a larger one"
        )
    if any(one.sleeps for one in wishes):
        warnings.append("sleep level 1 keeps the weights in RAM; level 2 does not, and loads them from disk again")
    return HostBudget(ram, shm, tuple(problems), tuple(warnings))
