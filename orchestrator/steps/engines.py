"""vLLM containers: started one at a time with a reason on the screen, stopped when their answers have ended."""

from __future__ import annotations

import time
from typing import Any

from orchestrator.clients.docker import ContainerFacts
from orchestrator.decide import startup
from orchestrator.errors import MigrateError, WrongState
from orchestrator.events import Kind
from orchestrator.plan.edits import engine_digest
from orchestrator.render import engine_services
from orchestrator.state import EngineState, Event, RouteState
from orchestrator.steps import Context
from orchestrator.steps.services import container_of, is_up, probe, serves
from orchestrator.stop import poll


class StartEngine:
    """Starts one vLLM and waits until it serves, telling its phase; knows the common failures by their text.

    The first of several replicas goes ahead: it fetches and compiles what the others then find.
    """

    def __init__(self, context: Context, name: str) -> None:
        self.context = context
        self.name = name
        self.services = tuple(engine_services(context.spec, name))
        self._began = time.monotonic()

    def already_done(self) -> bool:
        states = self.context.journal.states()
        last = self.context.journal.last("engine", self.name)
        return bool(
            states.engines.get(self.name) is EngineState.READY
            and last
            and last.data.get("digest") == self._digest()
            and all(serves(self.context, container_of(self.context, service)) for service in self.services)
            and all(states.routes[model] is not RouteState.PLANNED for model in self._models())
        )

    def do(self) -> dict[str, Any]:
        self._carries_nothing()
        self.context.journal.move("engine", self.name, Event.STARTED)
        found = self._start(self.services[:1])
        if len(self.services) > 1:
            self._start(self.services[1:])
        self.context.journal.append("engine", self.name, "ready", {"digest": self._digest(), "container": found.id})
        self.context.journal.move("engine", self.name, Event.READY)
        for model in self._models():
            if self.context.journal.states().routes[model] not in (RouteState.SHIFTING, RouteState.CUT_OVER):
                self.context.journal.move("route", model, Event.READY)
        return {"text": "serving" if len(self.services) == 1 else f"{len(self.services)} replicas are serving"}

    def _start(self, services: tuple[str, ...]) -> ContainerFacts:
        self.context.compose.up(services, no_deps=True)
        timeout = self.context.spec.engines[self.name].start_timeout
        found = poll(lambda: self._ready(services), timeout, self.context.stop, every_s=0.5)
        if found is None:
            late = next((one for one in services if self._waits(one)), services[0])
            raise MigrateError(
                f"vLLM ({self._called(late)}) was not ready after {timeout:.0f} s; last: {self._phase(late)}",
                evidence="\n".join(startup.telling(self._lines(late))),
                hint=f"raise engines/{self.name}/start_timeout, then run migrate up again",
            )
        return found

    def undo(self) -> None:
        """Stop it: one that fails would restart for ever and hold the GPU."""
        self.context.compose.stop(*self.services, grace_s=10)
        self.context.journal.move("engine", self.name, Event.STOPPED)

    def _carries_nothing(self) -> None:
        """Refuse to re-create an engine under its clients' hands; one that is down has none."""
        states = self.context.journal.states().routes
        live = [model for model in self._models() if states[model] in (RouteState.SHIFTING, RouteState.CUT_OVER)]
        up = any(is_up(container_of(self.context, service)) for service in self.services)
        last = self.context.journal.last("engine", self.name)
        if live and up and last and last.data.get("digest") != self._digest():
            raise WrongState(
                f"vLLM ({self.name}) carries traffic of {', '.join(live)} and its part of migrate.yaml has changed",
                hint="run migrate rollback first, then migrate up",
            )

    def _models(self) -> list[str]:
        return [model for model, route in self.context.spec.migrating().items() if route.engine == self.name]

    def _ready(self, services: tuple[str, ...]) -> ContainerFacts | None:
        """Return the first container once all of them serve."""
        for service in services:
            found = container_of(self.context, service)
            if found and found.status in ("exited", "dead", "restarting"):
                raise self._failed(found)
        for service in services:
            text = self._waits(service)
            if text:
                which = f"{self._called(service)}: " if len(self.services) > 1 else ""
                waited = f"{which}{text}, {time.monotonic() - self._began:.0f} s"
                self.context.say(f"start-engine {self.name}", waited, Kind.WAIT, reason=f"{which}{text}")
                return None
        return container_of(self.context, services[0])

    def _waits(self, service: str) -> str:
        """Return the phase of one that does not serve yet; empty when it does."""
        found = container_of(self.context, service)
        if is_up(found):
            return ""
        phase = self._phase(service)
        return "" if found and phase == "ready" and probe(self.context, found) else phase or "starting"

    def _called(self, service: str) -> str:
        return service.removeprefix("vllm-")

    def _phase(self, service: str) -> str:
        return startup.phase(self._lines(service))

    def _lines(self, service: str) -> list[str]:
        found = container_of(self.context, service)
        if not found:
            return []
        return self.context.docker.logs(found.id, since=found.started_at, tail=400)

    def _failed(self, found: ContainerFacts) -> MigrateError:
        # A restart has begun anew: the reason stands in the log of the run before.
        lines = self.context.docker.logs(found.id, tail=400)
        failure = startup.explain(lines, self.name)
        what = failure.what if failure else f"it ended with code {found.exit_code}"
        advice = failure.advice if failure else f"look at its log: migrate logs {found.service}"
        return MigrateError(
            f"vLLM ({self._called(found.service)}) did not start: {what}",
            evidence="\n".join(startup.telling(lines)),
            hint=f"{advice}; then run migrate up again",
        )

    def _digest(self) -> str:
        return engine_digest(self.context.spec, self.name)


class StopEngine:
    """Stops one vLLM once its running answers have ended (at most its `drain`)."""

    def __init__(self, context: Context, name: str) -> None:
        self.context = context
        self.name = name

    def already_done(self) -> bool:
        found = [container_of(self.context, service) for service in engine_services(self.context.spec, self.name)]
        return not any(one and (one.running or one.status == "restarting") for one in found)

    def do(self) -> dict[str, Any]:
        drain = self.context.spec.engines[self.name].drain
        left = poll(self._drained, drain, self.context.stop)
        self._stop()
        self.context.journal.move("engine", self.name, Event.STOPPED)
        for model, route in self.context.spec.migrating().items():
            if route.engine == self.name:
                self.context.journal.move("route", model, Event.STOPPED)
        return {"text": "stopped" if left else f"stopped; some answers were still running after {drain:.0f} s"}

    def _stop(self) -> None:
        services = engine_services(self.context.spec, self.name)
        try:
            self.context.compose.stop(*services)
        except MigrateError:
            # An edit that was not carried to its end has taken them out of compose.yaml.
            left = [one for service in services if (one := container_of(self.context, service)) and one.running]
            for one in left:
                self.context.docker.stop(one.id)

    def undo(self) -> None:
        """A stop that failed left it running: nothing to take back."""

    def _drained(self) -> bool | None:
        try:
            live = self.context.gateway.status().live.by_route
        except MigrateError:
            return True     # answers run through the gateway: without it there are none
        models = [model for model, route in self.context.spec.migrating().items() if route.engine == self.name]
        running = sum(live.get(model, {}).get("vllm", 0) for model in models)
        if running:
            self.context.say(f"stop-engine {self.name}", f"waiting for {running} running answers", Kind.WAIT)
        return None if running else True
