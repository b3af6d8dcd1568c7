"""What reaches the docker command: asked of a `docker` that only says what it was given."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.clients.docker import Docker

SAYS = """#!/bin/sh
echo "token ${HF_TOKEN-none}: $*"
"""


@pytest.fixture
def compose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    docker = tmp_path / "docker"
    docker.write_text(SAYS)
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return Docker().compose("migrate-main", tmp_path, [tmp_path / "compose.yaml"])


def test_going_back_needs_no_token_that_only_starting_needs(compose):
    """Compose refuses every command while a `${HF_TOKEN:?}` of its file is not set."""
    assert [line[:16] for line in compose.logs()] == ["token not-used: "]
    assert compose.services()[1] == "not-used:"


def test_starting_does(compose):
    lines: list[str] = []
    compose.up(["vllm-a"], on_line=lines.append)
    assert lines[0].startswith("token none: ")


def test_a_token_that_is_there_is_used(compose, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "given")
    assert compose.services()[1] == "given:"
