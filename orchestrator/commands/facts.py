"""`migrate facts`: what `plan` would look at, as JSON, to plan elsewhere."""

from __future__ import annotations

import sys

from orchestrator.clients.docker import Docker
from orchestrator.commands import adapters, hub
from orchestrator.commands.looking import Sources, look
from orchestrator.console import Console
from orchestrator.errors import ExitCode
from orchestrator.flags import Common
from orchestrator.observe import factsfile


def facts(
    console: Console, common: Common, *, ollama: str | None, scan: tuple[str, ...] = (), offline: bool = False
) -> int:
    """Print the facts of this machine on stdout; the container's secrets are not among them.

    What the Hub says of the repositories is among them, so that a plan from the file asks nobody and comes out alike.
    """
    seen = look(console, Sources(ollama=ollama, scan=scan), Docker(), None)
    seen = hub.seen(console, seen, offline=offline)
    text = factsfile.dumps(adapters.of_stack(seen, common))
    console.done()
    sys.stdout.write(text)
    return ExitCode.DONE
