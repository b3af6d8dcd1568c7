"""What the guard is told: its configuration file and the token of the gateway's door."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from orchestrator.adapter.decide import Engine
from orchestrator.errors import UsageError


@dataclass(frozen=True)
class Settings:
    """What the guard is told; times in seconds."""

    gateway: str
    token: str
    engines: tuple[Engine, ...]
    interval_s: float = 1.5
    timeout_s: float = 20.0
    failures: int = 2
    pulse_s: float = 1.0
    pulse_timeout_s: float = 1.5


def load(path: Path) -> Settings:
    """Read the configuration and the token; raises UsageError when one of them is missing or not valid."""
    try:
        data = json.loads(path.read_text())
        engines = tuple(
            Engine(
                name, entry["model"], tuple(entry["routes"]), entry.get("kind", "generate"),
                float(entry.get("start_s", 0.0)), tuple(map(str, entry.get("replicas", ()))),
                {str(target): str(url).rstrip("/") for target, url in entry.get("urls", {}).items()},
                int(entry.get("step_tokens", 16384)),
            )
            for name, entry in data["engines"].items()
        )
        token = Path(data["token_file"]).read_text().strip()
        numbers = ("interval_s", "timeout_s", "failures", "pulse_s", "pulse_timeout_s")
        known = {key: data[key] for key in numbers if key in data}
        return Settings(data["gateway"].rstrip("/"), token, engines, **known)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"guard configuration {path}: {type(error).__name__}: {error}") from error
