"""The environment of the client libraries, a way to run a driver in it, and the stand-ins."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clients_modules import ROOT, load

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.clients)


@pytest.fixture(scope="session")
def servers() -> Any:
    """The stand-ins of the conformance suite."""
    return load("clients_servers", ROOT / "tests" / "conformance" / "servers.py")


@pytest.fixture(scope="session")
def home() -> Path:
    """The environment of the client libraries: bin/python, bin/node, node_modules."""
    made = subprocess.run([ROOT / "tools" / "clients"], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return Path(made.stdout.strip())


@pytest.fixture(scope="session")
def drive(home: Path) -> Callable[..., Any]:
    """Run `drive("litellm", value)`: the driver of that name, which gets the value; returns what it answers."""
    python = home / "bin" / "python"

    def run(name: str, value: Any, **environment: str) -> Any:
        plain = {key: text for key, text in os.environ.items() if not key.lower().endswith("_proxy")}
        done = subprocess.run(
            [python, HERE / f"{name}_driver.py"], input=json.dumps(value), capture_output=True, text=True,
            check=False, timeout=240, env={**plain, **environment},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture
def started() -> Iterator[Callable[[Any], Any]]:
    """Hand a server over, to be stopped after the test."""
    running: list[Any] = []

    def keep(server: Any) -> Any:
        running.append(server)
        return server

    yield keep
    for server in running:
        server.stop()
