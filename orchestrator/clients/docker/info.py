"""What the engine says of itself, and whether a container gets a GPU."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.clients.docker.cli import Cli
from orchestrator.errors import MigrateError


def info() -> dict[str, Any]:
    """Return `docker info`; empty when the engine does not answer."""
    try:
        found = json.loads(Cli().docker("info", "--format", "{{json .}}"))
    except (MigrateError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def gpu_answer(image: str) -> str:
    """Start `nvidia-smi -L` in a container of an image that is here; empty when it lists a GPU, else what it said."""
    try:
        said = Cli().docker("run", "--rm", "--pull", "never", "--gpus", "all", "--network", "none",
                            "--entrypoint", "nvidia-smi", image, "-L")  # fmt: skip
    except MigrateError as error:
        lines = (error.evidence or error.message).strip().splitlines()
        return lines[-1] if lines else error.message
    return "" if "GPU" in said else "nvidia-smi lists no GPU"


def mountpoint(volume: str) -> str:
    """Return where a named volume lies on the engine's machine; empty when there is no such volume."""
    try:
        found = json.loads(Cli().docker("volume", "inspect", volume))[0]
    except (MigrateError, ValueError, LookupError):
        return ""
    options = found.get("Options") or {}
    bound = str(options.get("device") or "") if "bind" in str(options.get("o") or "") else ""
    return bound or str(found.get("Mountpoint") or "")
