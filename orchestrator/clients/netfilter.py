"""The host's packet filter and a container's connections, reached through short-lived containers.

Each container runs one file of `orchestrator/clients/agents` in the sidecar image (python3 and iptables in it) and
goes away with it; a leftover of a killed run has the same name and is removed first.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.clients.docker import Docker, RunSpec
from orchestrator.errors import MigrateError

NAME_TRIES = 4
Moves = Sequence[tuple[str, int, str]]  # address, port, address:port of who gets the new connections
AGENTS = Path(__file__).parent / "agents"
NEEDS = {"drain": ("polite",), "nat": ()}


def bundle(agent: str) -> str:
    """An agent and the files that it needs as one program for `python3 -c`: the container need not have them."""
    program = "import sys, types\n"
    for name in NEEDS[agent]:
        module, source = f"orchestrator.clients.agents.{name}", (AGENTS / f"{name}.py").read_text()
        program += f"m = sys.modules[{module!r}] = types.ModuleType({module!r})\nexec({source!r}, m.__dict__)\n"
    return program + f"exec(compile({(AGENTS / f'{agent}.py').read_text()!r}, {agent!r}, 'exec'))\n"


@dataclass(frozen=True)
class Connections:
    """Connections of a server: open, of those busy with a request, and idle ones closed so far."""

    open: int
    busy: int
    closed: int
    done: bool  # what was waited for has come
    over: bool  # the last report: done, or the bound was hit


class Netfilter:
    """Redirect rules and connection counts of one stack's port swap."""

    def __init__(self, docker: Docker, image: str, stack: str) -> None:
        self._docker = docker
        self._image = image
        self._name = f"migrate-{stack}"
        self.comment = f"migrate:{stack}"

    def redirect(self, listen: tuple[str, ...], port: int, to: int, moves: Moves = ()) -> list[str]:
        """Sends new connections for `port` to the published port `to`; returns the rules in force.

        `moves` do the same for clients on Docker networks, from one container's address to another's.
        """
        return self._nat(do="insert", comment=self.comment, listen=listen, port=port, to=to, moves=moves)

    def move(self, moves: Moves) -> list[str]:
        return self._nat(do="insert", comment=self.comment, listen=(), port=0, to=0, moves=moves)

    def rules(self) -> list[str]:
        return self._nat(do="list", comment=self.comment)

    def remove(self) -> list[str]:
        """Removes every rule of ours, whatever run left it; returns those that are still there (none)."""
        return self._nat(do="remove", comment=self.comment)

    def tidy(self) -> None:
        """Removes the containers that a killed run may have left."""
        for agent in NEEDS:
            self._docker.remove(f"{self._name}-{agent}")

    def drain(
        self, container: str, port: int, *, bound_s: float, until: str = "closed", quiet_s: float = 0.75
    ) -> Iterator[Connections]:
        """Reports the connections to a container's port until all are closed ("closed") or none is busy ("quiet").

        Idle keep-alive connections are closed on the way with "closed". Ends after bound_s seconds in any case.
        """
        ask = {"port": port, "bound_s": bound_s, "until": until, "quiet_s": quiet_s, "idle_s": 10}
        network = f"container:{container}"
        for line in self._lines("drain", network, ("NET_ADMIN", "NET_RAW"), ask):
            yield Connections(**json.loads(line))

    def _nat(self, **ask: Any) -> list[str]:
        lines = list(self._lines("nat", "host", ("NET_ADMIN", "NET_RAW"), ask))
        return list(json.loads(lines[-1])["rules"])

    def _lines(self, agent: str, network: str, capabilities: tuple[str, ...], ask: dict[str, Any]) -> Iterator[str]:
        name = f"{self._name}-{agent}"
        spec = RunSpec(
            self._image,
            ("-c", bundle(agent), json.dumps(ask)),
            name=name,
            entrypoint="python3",
            network=network,
            cap_add=capabilities,
            user="0",
            labels={"migrate.swap": self.comment},
        )
        for attempt in range(NAME_TRIES):
            self._docker.remove(name)
            try:
                yield from self._docker.run_lines(spec)
            except MigrateError as refused:
                if attempt == NAME_TRIES - 1 or not name_taken(refused):
                    raise
                time.sleep(0.5)
            else:
                return


def name_taken(refused: MigrateError) -> bool:
    """Whether another container has the name: a docker command of a killed run was still at work."""
    return "is already in use by container" in refused.evidence
