"""Services that run already follow their changed files without losing a connection."""

from __future__ import annotations

import hashlib
from typing import Any

from orchestrator.steps import Context
from orchestrator.steps.services import container_of

# nginx reads everything anew on SIGHUP and cuts nothing. The adapter, the guard and the preloader see by themselves
# that their file has changed; the adapter is told too, as the gateway sends it other requests from now on.
FOLLOWERS = {"gateway": "HUP", "adapter": "HUP"}


class ReloadServices:
    """Tells gateway and adapter about files that were written since they last read them."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def already_done(self) -> bool:
        return not self._behind()

    def do(self) -> dict[str, Any]:
        told = self._behind()
        for service in told:
            found = container_of(self.context, service)
            if found and found.running:
                self.context.docker.kill(found.id, FOLLOWERS[service])
            _note(self.context, service, "reloaded")
        return {"text": f"reloaded: {', '.join(told)}"}

    def undo(self) -> None:
        """A service that was not told keeps what it had read before."""

    def _behind(self) -> list[str]:
        behind = []
        for service in FOLLOWERS:
            last = self.context.journal.last("read", service)
            if last is None or last.data.get("digest") != _digest(self.context, service):
                behind.append(service)
        return behind


def note_started(context: Context) -> None:
    """Write down that these services have just started with their files as they are: there is nothing to reload."""
    for service in FOLLOWERS:
        _note(context, service, "started")


def _note(context: Context, service: str, word: str) -> None:
    context.journal.append("read", service, word, {"digest": _digest(context, service)})


def _digest(context: Context, service: str) -> str:
    folder = context.dir / service
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
