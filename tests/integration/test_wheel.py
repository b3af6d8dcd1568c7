"""The wheel stands on its own: installed elsewhere, run from anywhere, it plans against a running Ollama."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def migrate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of a wheel installed in an empty environment."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder / "dist"), str(ROOT)]
    subprocess.run(build, check=True, timeout=200)
    wheel = next((folder / "dist").glob("*.whl"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True, timeout=60)
    python = folder / "env" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", str(wheel)]
    subprocess.run(install, check=True, timeout=250)
    return folder / "env" / "bin" / "migrate"


@pytest.fixture
def ollama(tmp_path: Path) -> str:
    """The URL of a stand-in Ollama that runs as a plain process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {**os.environ, "OLLAMA_HOST": f"127.0.0.1:{port}", "OLLAMA_MODELS": str(tmp_path / "models"),
           "PYTHONPATH": str(ROOT)}
    with (tmp_path / "ollama.log").open("wb") as log:
        server = subprocess.Popen([sys.executable, "-m", "orchestrator.standin.ollama", "serve"],
                                  env=env, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            with suppress(OSError), urllib.request.urlopen(f"{url}/api/version", timeout=1):
                break
            time.sleep(0.05)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=20)


def test_plan_from_the_wheel_without_docker(migrate: Path, ollama: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    env = {"PATH": str(migrate.parent), "HOME": str(tmp_path)}
    done = subprocess.run(
        [migrate, "plan", "--ollama", ollama, "--model", "llama3.1:8b", "--cpu", "--stack", "first", "--json"],
        cwd=elsewhere, env=env, capture_output=True, text=True, timeout=120, check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["schema"] == 1
    assert answer["routes"]["llama3.1:8b"]["engine"] in answer["engines"]
    assert answer["compose_checked"] is False
    stack = elsewhere / "stacks" / "first"
    assert {"migrate.yaml", "compose.yaml", "gateway", "engine"} <= {path.name for path in stack.iterdir()}
    assert (stack / "gateway" / "lua" / "router.lua").is_file()
    assert (stack / "secrets" / "control.token").stat().st_mode & 0o077 == 0


def test_the_adapters_build_files_travel_in_the_wheel(migrate: Path) -> None:
    python = migrate.parent / "python"
    code = "import orchestrator.adapter as a, pathlib; print(pathlib.Path(a.__file__).parent)"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd="/", timeout=60)
    folder = Path(found.stdout.strip())
    assert not folder.is_relative_to(ROOT)
    assert (folder / "Dockerfile").is_file()
    assert (folder / "requirements.txt").is_file()
