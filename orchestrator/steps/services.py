"""Containers of the stack: started with Compose, waited for with a reason on the screen."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import yaml

from orchestrator.clients.docker import ContainerFacts
from orchestrator.errors import MigrateError, WrongState
from orchestrator.events import Kind
from orchestrator.state import StackState
from orchestrator.steps import Context
from orchestrator.stop import poll

SERVICE_TIMEOUT_S = 180.0

# Docker asks its first health question only after one interval: we ask the same at once.
_SIDECAR = ("python", "-m")
PROBES: dict[str, tuple[str, ...]] = {
    "ollama": ("ollama", "ps"),
    "gateway": ("wget", "-q", "-T", "3", "-O", "/dev/null", "http://127.0.0.1:9180/health"),
    "adapter": (*_SIDECAR, "orchestrator.adapter.serve", "--check"),
    "guard": (*_SIDECAR, "orchestrator.adapter.guard", "--check"),
    "preload": (*_SIDECAR, "orchestrator.adapter.preload", "--check"),
    "shadow": (*_SIDECAR, "orchestrator.adapter.shadow", "--check"),
}
VLLM_PROBE = (
    "python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=3)"
)


def container_of(context: Context, service: str) -> ContainerFacts | None:
    """Return the stack's container of a service, stopped ones included; None when there is none."""
    found = context.docker.containers(project=context.project, service=service)
    return found[0] if found else None


def is_up(found: ContainerFacts | None) -> bool:
    """Whether a container runs and its healthcheck, if it has one, passes."""
    return bool(found and found.running and found.health in ("", "healthy"))


def probe(context: Context, found: ContainerFacts) -> bool:
    """Whether the service inside answers now."""
    try:
        context.docker.exec(found.id, PROBES.get(found.service, VLLM_PROBE))
    except MigrateError:
        return False
    return True


def serves(context: Context, found: ContainerFacts | None) -> bool:
    """Whether a container is up, or has just started and answers before Docker's first question."""
    return is_up(found) or bool(found and found.running and found.health == "starting" and probe(context, found))


class StartService:
    """Starts one small service and waits until its healthcheck passes."""

    def __init__(self, context: Context, service: str, timeout_s: float = SERVICE_TIMEOUT_S) -> None:
        self.context = context
        self.service = service
        self.timeout_s = timeout_s

    def already_done(self) -> bool:
        # `up` also notices a changed compose.yaml, so only an unchanged, healthy service is left alone.
        same = self.context.journal.last("service", self.service)
        found = container_of(self.context, self.service)
        known = bool(found and same and same.data == self._identity(found))
        return known and serves(self.context, found)

    def do(self) -> dict[str, Any]:
        self._serves_nobody()
        self.context.compose.up([self.service], no_deps=True)
        found = poll(self._healthy, self.timeout_s, self.context.stop)
        if found is None:
            raise MigrateError(
                f"{self.service} did not become healthy in {self.timeout_s:.0f} s",
                evidence=self._log(),
                hint=f"look at its log: migrate logs {self.service}",
            )
        self.context.journal.append("service", self.service, "up", self._identity(found))
        return {"text": "up and healthy"}

    def undo(self) -> None:
        """Leave it: nothing but this stack uses it, and the next run goes on with it."""

    def _healthy(self) -> ContainerFacts | None:
        found = container_of(self.context, self.service)
        if found and found.status in ("exited", "dead", "restarting"):
            raise MigrateError(
                f"{self.service} ended with code {found.exit_code}",
                evidence=self._log(),
                hint=f"look at its log: migrate logs {self.service}",
            )
        if found and serves(self.context, found):
            return found
        text = found.health or found.status if found else "not created yet"
        self.context.say(f"start-service {self.service}", f"waiting for its healthcheck ({text})", Kind.WAIT)
        return None

    def _serves_nobody(self) -> None:
        """Refuse to re-create the stack's Ollama while it has the traffic: its one restart is in the take-over."""
        last = self.context.journal.last("service", self.service)
        found = container_of(self.context, self.service)
        taken_over = self.context.journal.states().stack is StackState.TAKEN_OVER
        if not (self.service == "ollama" and taken_over and is_up(found) and last and found):
            return
        if last.data["compose"] != self._identity(found)["compose"]:
            raise WrongState(
                "Ollama serves live traffic and its part of migrate.yaml has changed",
                hint="undo the change, or give the port back first: migrate rollback --restore, then migrate up",
            )

    def _identity(self, found: ContainerFacts) -> dict[str, str]:
        compose = yaml.safe_load((self.context.dir / "compose.yaml").read_text(encoding="utf-8"))
        section = json.dumps(compose["services"].get(self.service), sort_keys=True)
        return {"container": found.id, "compose": hashlib.sha256(section.encode()).hexdigest()}

    def _log(self) -> str:
        found = container_of(self.context, self.service)
        return "\n".join(self.context.docker.logs(found.id, tail=12)) if found else ""
