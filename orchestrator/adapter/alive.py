"""How a container of the stack tells Docker that it is alive: a server that answers, a loop that wrote lately."""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from pathlib import Path

from orchestrator.adapter.wire import JSON

_TIMEOUT_S = 3.0


def write_state(path: Path, data: JSON) -> None:
    """Write the state whole or not at all; `at` in it is when, in epoch seconds."""
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(data))
    temporary.replace(path)


def looped(state: Path, slack_s: float) -> int:
    """Return 0 when the loop that writes `state` has run lately."""
    try:
        age = time.time() - float(json.loads(state.read_text())["at"])
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"{state.stem}: {error}\n")
        return 1
    return 0 if age < slack_s else 1


def answers(who: str, port: int, path: str = "/healthz", timeout_s: float = _TIMEOUT_S) -> int:
    """Return 0 when the server on this machine answers 200."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=timeout_s) as answer:
            return 0 if answer.status == 200 else 1
    except OSError as error:
        sys.stderr.write(f"{who}: {error}\n")
        return 1
