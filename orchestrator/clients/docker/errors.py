"""What Docker's refusals mean for the user: one short message, the evidence, and what to do next."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from orchestrator.errors import MigrateError, UsageError

EVIDENCE_LINES = 8
# Flags whose value may hold a secret: only the name of the variable is ever shown.
_SECRET_FLAGS = {"-e", "--env", "--build-arg"}

_INSTALL = "Install Docker Engine and its Compose v2 plugin: https://docs.docker.com/engine/install/"
_KNOWN: tuple[tuple[str, str, str], ...] = (
    (
        r"permission denied while trying to connect|dial unix .*: permission denied",
        "This user may not talk to Docker (permission denied on its socket)",
        "Run as root, or: sudo usermod -aG docker $USER, then log in again.",
    ),
    (
        r"(cannot|failed to) connect to the docker (daemon|api)|is the docker daemon running|error during connect",
        "Docker is installed but its daemon does not answer",
        "Start it: sudo systemctl start docker. A daemon elsewhere: set DOCKER_HOST.",
    ),
    (
        r"'compose' is not a docker|unknown command: docker compose|unknown (shorthand )?flag: ('.'|--(short|file))",
        "Docker Compose v2 is missing",
        "Install the plugin docker-compose-plugin (the old docker-compose v1 is not enough).",
    ),
    (
        r"could not select device driver",
        "Docker has no GPU driver: the NVIDIA container toolkit is missing or not configured",
        "Install nvidia-container-toolkit, run: sudo nvidia-ctk runtime configure, then restart Docker.",
    ),
    (
        r"no space left on device",
        "The disk of Docker is full",
        "See what takes the room: docker system df. Then free some of it.",
    ),
)
_PORT = re.compile(
    r"(?:Bind for |listen \w+ )(?P<ip>\[?[0-9a-fA-F.:]*?\]?):(?P<port>\d+)"
    r"(?: failed: port is already allocated|: bind: address already in use)"
)


def not_installed() -> MigrateError:
    return UsageError("Docker is not installed: there is no `docker` command on the PATH", hint=_INSTALL)


def shown(command: Sequence[object]) -> str:
    """The command line as it may be shown: values of environment variables and build arguments left out."""
    words, hide = [], False
    for word in map(str, command):
        flag, joined, value = word.partition("=")
        if hide:
            words.append(flag + ("=…" if joined else ""))
        elif joined and flag in _SECRET_FLAGS:
            words.append(f"{flag}={value.partition('=')[0]}=…")
        else:
            words.append(word if len(word) <= 200 else word[:80] + "…")
        hide = word in _SECRET_FLAGS
    return shlex.join(words)


def taken_port(stderr: str) -> tuple[str, int] | None:
    """(address, port) that somebody else holds, when that is what Docker complains about."""
    found = _PORT.search(stderr)
    return (found["ip"] or "0.0.0.0", int(found["port"])) if found else None


def explain(command: Sequence[object], return_code: int, stderr: str, holder: str = "") -> MigrateError:
    """A failed Docker command as an error for the user; `holder` names who has a port that was refused."""
    lines = [line for line in stderr.strip().splitlines() if line.strip()]
    evidence = "\n".join([f"$ {shown(command)}", *lines[-EVIDENCE_LINES:], f"exit code {return_code}"])
    port = taken_port(stderr)
    if port:
        by = f" by {holder}" if holder else ""
        return MigrateError(
            f"Port {port[1]} on {port[0]} is already taken{by}",
            hint="Stop what holds it, or choose another port in migrate.yaml (listen).",
            evidence=evidence,
        )
    for pattern, message, hint in _KNOWN:
        if re.search(pattern, stderr, re.IGNORECASE):
            return MigrateError(message, hint=hint, evidence=evidence)
    reason = lines[-1] if lines else f"exit code {return_code}"
    return MigrateError(f"Docker refused: {reason}", evidence=evidence)
