"""Compose itself and our reading agree on which hand-written files it refuses: every case of tests/cases/compose."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from orchestrator.decide.composecheck import check
from tests.unit import decide_cases

pytestmark = pytest.mark.docker
# What `docker compose config` says no to; the other findings are about what runs in the containers.
REFUSED = {
    "yaml", "no-services", "no-mapping", "unknown-key", "no-image", "depends-unknown", "volume-undeclared", "env-mixed",
    "not-a-list", "duration", "capabilities", "count-and-ids", "ids-text", "network-twice", "health-form", "kubernetes",
    "gpu-place",
}  # fmt: skip
CASES = [path for path in decide_cases.cases("compose") if "services" in decide_cases.read(path)["compose"]]
OTHERS = {"base.yml": "services: {vllm: {image: x}}\n", "ollama.yml": "services: {ollama: {image: x}}\n"}


def required(text: str) -> dict[str, str]:
    """Return a value for every variable that Compose may demand."""
    return {name: "v0.30.0" if "VERSION" in name else "x" for name in re.findall(r"\$\{(\w+):?\?", text)}



@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_compose_says_the_same(path: Path, tmp_path: Path) -> None:
    text = decide_cases.read(path)["compose"]
    (tmp_path / "compose.yaml").write_text(text, encoding="utf-8")
    (tmp_path / ".env").write_text("", encoding="utf-8")
    for name, body in OTHERS.items():
        (tmp_path / name).write_text(body, encoding="utf-8")
    done = subprocess.run(
        ["docker", "compose", "--file", str(tmp_path / "compose.yaml"), "config", "--quiet"], cwd=tmp_path,
        env={**os.environ, **required(text)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = check(text, env=required(text))
    twice = any(one.code == "twice" and "Compose refuses" in one.what for one in found)
    refused = {one.code for one in found} & REFUSED or twice
    assert (done.returncode != 0) == bool(refused), f"{done.stderr}\n{refused}"
