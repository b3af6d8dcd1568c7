"""The guard's hands: what it does at the gateway's control door, and what it says about it."""

from __future__ import annotations

import aiohttp

from orchestrator.adapter.decide import Action, Lower, Release, TakeOut, weights_of
from orchestrator.adapter.guard_settings import Settings
from orchestrator.adapter.notes import Notes
from orchestrator.adapter.probe import bearer
from orchestrator.adapter.respond import log
from orchestrator.adapter.wire import JSON

TIMEOUT_S = 5.0
RETRIES = 5
ODD = (ValueError, TypeError, KeyError, AttributeError)     # an answer that is none of this gateway's


class Door:
    """Does what was decided; `notes` are for the stack's journal."""

    def __init__(self, settings: Settings, session: aiohttp.ClientSession, notes: Notes) -> None:
        self.settings = settings
        self._session = session
        self._notes = notes
        self._taken_out: set[str] = set()

    async def status(self) -> JSON:
        return await self._ask("GET", "/control/status")

    async def do(self, action: Action, status: JSON) -> None:
        if isinstance(action, Release):
            await self._ask("POST", "/control/lease", {"owner": action.owner, "seconds": 0, "fallback": {}})
            self.tell("lease", owner=action.owner, released=True)
            return
        if isinstance(action, TakeOut):
            await self._ask("POST", "/control/replica", {"replica": action.replica, "seconds": action.seconds})
            self._took_out(action)
            return
        before = weights_of(status)
        version = await self._lower(action, status)
        if version is not None:
            lowered = {route: [before.get(route, 0.0), to] for route, to in action.weights.items()}
            self.tell("lowered", engine=action.engine, cause=action.cause, weights=lowered, version=version)

    def _took_out(self, action: TakeOut) -> None:
        fields = {"replica": action.replica, "out_s": action.seconds, "cause": action.cause}
        if action.seconds and action.replica in self._taken_out:
            log(event="replica", **fields)      # again, before its time is up: nothing new
            return
        (self._taken_out.add if action.seconds else self._taken_out.discard)(action.replica)
        self.tell("replica", **fields)

    def tell(self, event: str, **fields: object) -> None:
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
                return int((await self._ask("POST", "/control/weights", body))["version"])
            except aiohttp.ClientResponseError as error:
                if error.status != 409:
                    raise
            status = await self.status()
        log(event="lowered", engine=action.engine, cause=action.cause, error="too many conflicts")
        return None

    async def _ask(self, method: str, path: str, body: JSON | None = None) -> JSON:
        limit = aiohttp.ClientTimeout(total=TIMEOUT_S)
        url = self.settings.gateway + path
        headers = bearer(self.settings)
        async with self._session.request(method, url, json=body, headers=headers, timeout=limit) as answer:
            answer.raise_for_status()
            data = await answer.json(content_type=None)
        if not isinstance(data, dict):
            raise ValueError(f"unexpected answer of {path}")  # noqa: TRY004  (it is the peer's, not a type of ours)
        return data
