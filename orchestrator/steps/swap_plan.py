"""What a port swap is asked to do and what came of it: frozen values that travel as JSON to the helper."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

WhenBusy = Literal["cut", "abort"]
Outcome = Literal["moved", "undone", "stuck"]


@dataclass(frozen=True)
class PlainContainer:
    """A container that is parked (stopped, renamed, restart=no) while it does not serve; never re-created."""

    name: str
    parked: str  # its name while parked: NAME-before-migrate
    restart: str = "unless-stopped"  # its restart policy while it serves


@dataclass(frozen=True)
class ComposeService:
    """A service of a Compose project, started with `up --no-deps` and stopped with `stop`."""

    project: str
    directory: str
    files: tuple[str, ...]
    service: str
    env_files: tuple[str, ...] = ()


Party = PlainContainer | ComposeService


@dataclass(frozen=True)
class TempGateway:
    """The gateway that answers while the port changes hands (role swap)."""

    name: str
    image: str
    command: tuple[str, ...] = ()
    entrypoint: str = ""
    env: dict[str, str] = field(default_factory=dict)
    mounts: tuple[tuple[str, str, bool], ...] = ()  # source, target, read-only
    networks: tuple[tuple[str, tuple[str, ...]], ...] = ()  # network and aliases; the first one carries the port
    port: int = 11434  # inside the container
    host_port: int = 0  # 0: any free one


@dataclass(frozen=True)
class SwapPlan:
    """Move the published `port` from `old` to `new`. `serves` says how `new` is recognised when it answers."""

    stack: str
    listen: tuple[str, ...]  # the addresses on which the port is published: 127.0.0.1, or 0.0.0.0 and ::
    port: int
    old: Party
    new: Party
    temp: TempGateway
    sidecar_image: str
    serves: Literal["gateway", "ollama"] = "gateway"
    old_port: int = 11434  # inside the old container
    new_port: int = 11434
    drain_s: float = 120
    when_busy: WhenBusy = "abort"
    redirect: Literal["auto", "never"] = "auto"
    start_s: float = 60  # how long the temporary and the new one may take to answer
    stop_grace_s: int = 10

    @property
    def probe_host(self) -> str:
        """The address at which a client on this host reaches the port."""
        first = self.listen[0]
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(first, first)

    def dumps(self) -> str:
        raw = dataclasses.asdict(self)
        for side in ("old", "new"):
            raw[side]["kind"] = "compose" if isinstance(getattr(self, side), ComposeService) else "container"
        return json.dumps(raw, indent=1)

    @classmethod
    def loads(cls, text: str) -> SwapPlan:
        raw = json.loads(text)
        temp = {**raw["temp"]}
        temp["mounts"] = tuple((source, target, bool(ro)) for source, target, ro in temp["mounts"])
        temp["networks"] = tuple((name, tuple(aliases)) for name, aliases in temp["networks"])
        temp["command"] = tuple(temp["command"])
        raw |= {"old": _party(raw["old"]), "new": _party(raw["new"]), "temp": TempGateway(**temp)}
        return cls(**{**raw, "listen": tuple(raw["listen"])})


def _party(raw: dict[str, Any]) -> Party:
    kind = raw.pop("kind")
    if kind == "container":
        return PlainContainer(**raw)
    lists = {name: tuple(raw[name]) for name in ("files", "env_files")}
    return ComposeService(**{**raw, **lists})


@dataclass(frozen=True)
class SwapResult:
    """What a swap did to the clients. Times in seconds; `refused` counts the prober's own failed connections."""

    id: str
    outcome: Outcome
    mode: Literal["redirect", "back-to-back", "none"]
    waited_streams: int = 0
    closed_idle: int = 0  # keep-alive connections closed between two requests
    cut: int = 0
    refused: int = 0
    probes: int = 0
    gap_s: float = 0.0
    drained_s: float = 0.0
    took_s: float = 0.0
    attempts: int = 1
    error: str = ""
    hint: str = ""
    evidence: str = ""

    @classmethod
    def load(cls, path: Path) -> SwapResult | None:
        return cls(**json.loads(path.read_text())) if path.exists() else None

    def dumps(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1)
