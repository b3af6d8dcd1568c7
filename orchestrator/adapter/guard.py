"""`python -m orchestrator.adapter.guard`: probes the engines and may only lower weights.

It lives in the stack, so that a hung engine loses its traffic and an abandoned cutover goes back also when
no terminal is left.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import aiohttp

from orchestrator.adapter.alive import looped, write_state
from orchestrator.adapter.decide import (
    Action,
    Engine,
    Health,
    Lower,
    Release,
    TakeOut,
    circuits,
    decide,
    in_use,
    weights_of,
)
from orchestrator.adapter.guard_settings import Settings, load
from orchestrator.adapter.notes import Notes
from orchestrator.adapter.probe import REFUSED, bearer, probe
from orchestrator.adapter.pulse import Lag, Pulse
from orchestrator.adapter.respond import log
from orchestrator.adapter.watched import Watched
from orchestrator.adapter.wire import JSON
from orchestrator.errors import MigrateError

DEFAULT = "/etc/guard/config.json"
STATE = "/tmp/guard.json"  # noqa: S108  (inside the container, for its own health check)
NOTES = "/var/lib/guard"    # a folder of the stack, from which `migrate` reads
DOOR_TIMEOUT_S = 5.0
RETRIES = 5
ODD = (ValueError, TypeError, KeyError, AttributeError)     # an answer that is none of this gateway's


class Guard:
    """The loop; `now` gives epoch seconds."""

    def __init__(
        self, settings: Settings, session: aiohttp.ClientSession, now: Callable[[], float] = time.time,
        notes: Notes | None = None,
    ) -> None:
        self._settings = settings
        self._session = session
        self._now = now
        self._began = now()
        self._notes = notes or Notes(None)
        self._taken_out: set[str] = set()
        self.health: dict[str, Health] = {one: Health() for engine in settings.engines for one in engine.targets}
        self._lost = ""
        self._probes: dict[str, asyncio.Task[None]] = {}
        self._lag = Lag()
        self._pulses: dict[Pulse, asyncio.Task[None]] = {}

    def follow(self, settings: Settings) -> None:
        """Go on with other settings; what is known of an engine stays known."""
        self._settings = settings
        for engine in settings.engines:
            for target in engine.targets:
                self.health.setdefault(target, Health())
        self._listen(settings)

    def _listen(self, settings: Settings) -> None:
        """Listen for the pulses of these engines, and of no others."""
        wanted = {
            Pulse(target, url, settings.pulse_s, settings.pulse_timeout_s, settings.failures)
            for engine in settings.engines for target, url in engine.urls.items()
        }
        for old in self._pulses.keys() - wanted:
            self._pulses.pop(old).cancel()
        if wanted and not self._lag.watched:
            self._lag.watch()
        for new in wanted - self._pulses.keys():
            silent = partial(self._silent, new.target)
            self._pulses[new] = asyncio.create_task(new.follow(self._session, self._lag, silent))

    async def _silent(self, target: str, seconds: float) -> None:
        """Keep requests from a target that has said nothing for so long, if it has traffic."""
        engine = next(one for one in self._settings.engines if target in one.urls)
        try:
            status = await self._door("GET", "/control/status")
            if not in_use(engine, status):
                return
            if not self.health[target].silent:
                log(event="pulse", engine=target, ok=False, silent_s=round(seconds, 1))
            self.health[target] = self.health[target].gone_silent(f"no sign of life for {seconds:.0f} s")
            for action in circuits(engine, status, self.health, self._settings.failures):
                await self._do(action, status)
        except (aiohttp.ClientError, TimeoutError, *ODD):
            return      # the rounds say what is wrong with the gateway

    async def close(self) -> None:
        """Stop listening and probing."""
        self._lag.close()
        tasks = [*self._pulses.values(), *self._probes.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def round(self) -> None:
        """Look once and act. A gateway that does not answer is said once and tried again."""
        try:
            status = await self._door("GET", "/control/status")
            await self._probe_all(status)
            await self._act(await self._door("GET", "/control/status"))
        except (aiohttp.ClientError, TimeoutError, *ODD) as error:
            reason = f"{type(error).__name__}: {error}"
            if reason != self._lost:
                self._tell("gateway", ok=False, reason=reason)
            self._lost = reason
            return
        if self._lost:
            self._tell("gateway", ok=True)
        self._lost = ""

    async def _probe_all(self, status: JSON) -> None:
        """Probe the engines that have traffic, all at once; the others are left in peace.

        A probe that takes longer than the interval goes on while the next rounds look after the lease.
        """
        for engine in self._settings.engines:
            used = in_use(engine, status)
            for target in engine.targets:
                if not used:
                    self.health[target] = Health(answered=self.health[target].answered)
                elif target not in self._probes:
                    self._probes[target] = asyncio.create_task(self._probed(engine, target))
        if self._probes:
            await asyncio.wait(self._probes.values(), timeout=self._settings.interval_s)

    async def _probed(self, engine: Engine, target: str) -> None:
        reason = await probe(self._session, self._settings, engine, target)
        before = self.health[target]
        starting = reason == REFUSED and self._may_be_starting(engine, target)
        self.health[target] = before.after(reason, starting=starting)
        if (reason or "") != before.reason:
            log(event="probe", engine=target, ok=reason is None, reason=reason or "", starting=starting)
        del self._probes[target]

    def _may_be_starting(self, engine: Engine, target: str) -> bool:
        """Tell whether an engine that nobody can connect to may have begun together with this guard.

        After a reboot, or `docker compose up`, everything starts at once, and vLLM takes minutes: the weights
        must still be there when it is ready.
        """
        return not self.health[target].answered and self._now() - self._began < engine.start_s

    async def _act(self, status: JSON) -> None:
        settings = self._settings
        for action in decide(status, settings.engines, self.health, settings.failures, self._now()):
            await self._do(action, status)

    async def _do(self, action: Action, status: JSON) -> None:
        if isinstance(action, Release):
            await self._door("POST", "/control/lease", {"owner": action.owner, "seconds": 0, "fallback": {}})
            self._tell("lease", owner=action.owner, released=True)
            return
        if isinstance(action, TakeOut):
            await self._door("POST", "/control/replica", {"replica": action.replica, "seconds": action.seconds})
            self._took_out(action)
            return
        before = weights_of(status)
        version = await self._lower(action, status)
        if version is not None:
            lowered = {route: [before.get(route, 0.0), to] for route, to in action.weights.items()}
            self._tell("lowered", engine=action.engine, cause=action.cause, weights=lowered, version=version)

    def _took_out(self, action: TakeOut) -> None:
        fields = {"replica": action.replica, "out_s": action.seconds, "cause": action.cause}
        if action.seconds and action.replica in self._taken_out:
            log(event="replica", **fields)      # again, before its time is up: nothing new
            return
        (self._taken_out.add if action.seconds else self._taken_out.discard)(action.replica)
        self._tell("replica", **fields)

    def _tell(self, event: str, **fields: object) -> None:
        """Log what was done or found, and write it down for the journal."""
        log(event=event, **fields)
        self._notes.write(event, **fields)

    async def _lower(self, action: Lower, status: JSON) -> int | None:
        """Set the weights, again with fresh ones on a conflict; None when they are low enough already."""
        for _ in range(RETRIES):
            current = weights_of(status)
            wanted = {route: to for route, to in action.weights.items() if to < current.get(route, 0.0)}
            if not wanted:
                return None
            body = {"version": status["version"], "weights": wanted, "by": f"guard: {action.cause}"}
            try:
                return int((await self._door("POST", "/control/weights", body))["version"])
            except aiohttp.ClientResponseError as error:
                if error.status != 409:
                    raise
            status = await self._door("GET", "/control/status")
        log(event="lowered", engine=action.engine, cause=action.cause, error="too many conflicts")
        return None

    async def _door(self, method: str, path: str, body: JSON | None = None) -> JSON:
        limit = aiohttp.ClientTimeout(total=DOOR_TIMEOUT_S)
        url = self._settings.gateway + path
        headers = bearer(self._settings)
        async with self._session.request(method, url, json=body, headers=headers, timeout=limit) as answer:
            answer.raise_for_status()
            data = await answer.json(content_type=None)
        if not isinstance(data, dict):
            raise ValueError(f"unexpected answer of {path}")  # noqa: TRY004  (it is the peer's, not a type of ours)
        return data


async def run(
    watched: Watched[Settings], state: Path, stop: asyncio.Event, notes: Notes | None = None
) -> None:
    """Look and act every interval until told to stop; `state` shows that the loop is alive."""
    # An engine that was created anew has another address.
    connector = aiohttp.TCPConnector(ttl_dns_cache=1)
    async with aiohttp.ClientSession(connector=connector) as session:
        guard = Guard(watched.current, session, notes=notes)
        try:
            await _rounds(guard, watched, state, stop)
        finally:
            await guard.close()


async def _rounds(guard: Guard, watched: Watched[Settings], state: Path, stop: asyncio.Event) -> None:
    while not stop.is_set():
        settings = watched.check()
        guard.follow(settings)
        await guard.round()
        targets = [target for one in settings.engines for target in one.targets]
        failing = {one: guard.health[one].reason for one in targets if guard.health[one].reason}
        write_state(state, {"at": time.time(), "failing": failing, "every_s": settings.interval_s})
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), settings.interval_s)


async def _main(watched: Watched[Settings], state: Path, notes: Notes) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    settings = watched.current
    engines = [engine.name for engine in settings.engines]
    log(event="start", engines=engines, every_s=settings.interval_s)
    notes.write("start", engines=engines)
    await run(watched, state, stop, notes)


def main() -> int:
    """Guard until SIGTERM."""
    parser = argparse.ArgumentParser(prog="guard", description=__doc__)
    parser.add_argument("--config", type=Path, default=Path(os.environ.get("GUARD_CONFIG", DEFAULT)))
    parser.add_argument("--state", type=Path, default=Path(STATE))
    parser.add_argument("--notes", type=Path, default=Path(os.environ.get("GUARD_NOTES", NOTES)))
    parser.add_argument("--check", action="store_true", help="tell whether a running guard is alive")
    given = parser.parse_args()
    try:
        watched = Watched(given.config, load)
    except MigrateError as error:
        sys.stderr.write(f"{error.message}\n")
        return int(error.exit_code)
    if given.check:
        return looped(given.state, 2 * (watched.current.interval_s + watched.current.timeout_s) + 15)
    asyncio.run(_main(watched, given.state, Notes(given.notes)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
