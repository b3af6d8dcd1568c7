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
    Engine,
    Health,
    circuits,
    decide,
    in_use,
)
from orchestrator.adapter.door import ODD, Door
from orchestrator.adapter.guard_settings import Settings, load
from orchestrator.adapter.notes import Notes
from orchestrator.adapter.probe import REFUSED, probe
from orchestrator.adapter.pulse import Lag, Pulse
from orchestrator.adapter.respond import log
from orchestrator.adapter.stall import Stall
from orchestrator.adapter.watched import Watched
from orchestrator.adapter.wire import JSON
from orchestrator.errors import MigrateError

DEFAULT = "/etc/guard/config.json"
STATE = "/tmp/guard.json"  # noqa: S108  (inside the container, for its own health check)
NOTES = "/var/lib/guard"    # a folder of the stack, from which `migrate` reads


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
        self.door = Door(settings, session, notes or Notes(None))
        self._stalls: dict[str, Stall] = {}
        self.health: dict[str, Health] = {one: Health() for engine in settings.engines for one in engine.targets}
        self._lost = ""
        self._probes: dict[str, asyncio.Task[None]] = {}
        self._lag = Lag()
        self._pulses: dict[Pulse, asyncio.Task[None]] = {}

    def follow(self, settings: Settings) -> None:
        """Go on with other settings; what is known of an engine stays known."""
        self._settings = self.door.settings = settings
        for engine in settings.engines:
            for target in engine.targets:
                self.health.setdefault(target, Health())
        self._listen(settings)
        known = {one: (url, engine.step_tokens) for engine in settings.engines for one, url in engine.urls.items()}
        old = self._stalls
        self._stalls = {
            one: old[one] if one in old and (old[one].url, old[one].step_tokens) == what else Stall(*what)
            for one, what in known.items()
        }

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
            silent = partial(self._no_pulse, new.target)
            self._pulses[new] = asyncio.create_task(new.follow(self._session, self._lag, silent))

    async def _no_pulse(self, target: str, seconds: float) -> None:
        await self._silent(target, f"no sign of life for {seconds:.0f} s", silent_s=round(seconds, 1))

    async def _silent(self, target: str, reason: str, **more: object) -> None:
        """Keep requests from a target that seems to hang, if it has traffic."""
        engine = next((one for one in self._settings.engines if target in one.urls), None)
        try:
            status = await self.door.status()
            if engine is None or not in_use(engine, status):
                return
            if not self.health[target].silent:
                log(event="pulse", engine=target, ok=False, reason=reason, **more)
            self.health[target] = self.health[target].gone_silent(reason)
            for action in circuits(engine, status, self.health, self._settings.failures):
                await self.door.do(action, status)
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
            status = await self.door.status()
            await self._probe_all(status)
            await self._act(await self.door.status())
        except (aiohttp.ClientError, TimeoutError, *ODD) as error:
            reason = f"{type(error).__name__}: {error}"
            if reason != self._lost:
                self.door.tell("gateway", ok=False, reason=reason)
            self._lost = reason
            return
        if self._lost:
            self.door.tell("gateway", ok=True)
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
        reason = await self._waited_for(engine, target)
        before = self.health[target]
        starting = reason == REFUSED and self._may_be_starting(engine, target)
        self.health[target] = before.after(reason, starting=starting)
        if (reason or "") != before.reason:
            log(event="probe", engine=target, ok=reason is None, reason=reason or "", starting=starting)
        del self._probes[target]

    async def _waited_for(self, engine: Engine, target: str) -> str | None:
        """Probe once, and look meanwhile whether the engine moves at all."""
        settings, stall, looking = self._settings, self._stalls.get(target), None
        if stall:
            alarm = partial(self._silent, target)
            watch = stall.watch(self._session, self._lag, settings.pulse_timeout_s, settings.timeout_s, alarm)
            looking = asyncio.create_task(watch)
        try:
            reason = await probe(self._session, settings, engine, target)
        finally:
            if looking:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)
        if stall:
            stall.ended(well=reason is None)
        return reason

    def _may_be_starting(self, engine: Engine, target: str) -> bool:
        """Tell whether an engine that nobody can connect to may have begun together with this guard.

        After a reboot, or `docker compose up`, everything starts at once, and vLLM takes minutes: the weights
        must still be there when it is ready.
        """
        return not self.health[target].answered and self._now() - self._began < engine.start_s

    async def _act(self, status: JSON) -> None:
        settings = self._settings
        for action in decide(status, settings.engines, self.health, settings.failures, self._now()):
            await self.door.do(action, status)


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
