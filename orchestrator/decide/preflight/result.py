"""What one look gave, and what had to be tried out for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.decide.hubfact import HubFact

Status = Literal["ok", "warn", "fail", "not checked"]


@dataclass(frozen=True, slots=True)
class Result:
    """One thing that was looked at. `fix` is empty where nothing is to be done.

    `blocks`: the deployment would certainly break on it, so that `up` does not begin.
    """

    status: Status
    name: str
    text: str
    fix: str = ""
    blocks: bool = False

    def __str__(self) -> str:
        return f"{self.status}: {self.name}: {self.text}" + (f". Fix: {self.fix}" if self.fix else "")


@dataclass(frozen=True, slots=True)
class Probes:
    """What had to be tried out; None where it was not. Sizes in bytes."""

    runtimes: tuple[str, ...] | None = None     # of `docker info`
    cdi: bool = False                           # the engine knows NVIDIA devices by CDI
    hook: bool = False                          # NVIDIA's container hook is installed: `--gpus` works by it
    docker_root: str = ""                       # where images and volumes lie, if that is on this machine
    disk_free: dict[str, int] = field(default_factory=dict)     # path -> free on its mount
    disk_device: dict[str, int] = field(default_factory=dict)   # path -> number of its file system
    weights_at: dict[str, str] = field(default_factory=dict)    # engine -> path of its cache of weights
    weights_here: dict[str, int | None] = field(default_factory=dict)   # engine -> bytes there; None: not readable
    gpu_container: str | None = None            # empty: it saw a GPU; else what it said
    ports: dict[int, str] = field(default_factory=dict)         # port -> who listens; empty: nobody
    token: bool | None = None                   # HF_TOKEN is there
    hub: dict[str, HubFact] = field(default_factory=dict)       # repository -> what the Hub said of it
    ram: int | None = None
    open_files: int | None = None
    images_here: tuple[str, ...] = ()           # need no room any more


def failed(results: Iterable[Result]) -> bool:
    return any(one.status == "fail" for one in results)


def blocking(results: Iterable[Result]) -> list[Result]:
    """Return what would certainly break a deployment."""
    return [one for one in results if one.blocks]
