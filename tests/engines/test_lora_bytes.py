"""The slots that the real vLLM makes for LoRA equal our count, for the configurations in tests/cases/kv.

What it says is also kept in tests/cases/lora/recorded.json (MIGRATE_RECORD=1 writes it), so that the plain tests check
the same. Mixtures of experts are not made by the CPU build, and some classes take no LoRA: both are not recorded.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parent
CASES = Path(os.environ.get("MIGRATE_CASES", HERE.parent / "cases"))
IMAGE = os.environ.get("MIGRATE_VLLM_IMAGE", "migrate/vllm-cpu:dev")
RECORD = CASES / "lora" / "recorded.json"
PROBE = (HERE / "lora_probe.py").read_text()


def python(script: str, stdin: str) -> subprocess.CompletedProcess[str]:
    command = shlex.split(os.environ.get("MIGRATE_VLLM_PYTHON", "")) or [
        "docker", "run", "--rm", "-i", "--network", "none", "--shm-size", "1g", "--entrypoint", "python3", IMAGE,
    ]  # fmt: skip
    return subprocess.run([*command, "-c", script], input=stdin, capture_output=True, text=True, check=False)


@pytest.mark.docker
@pytest.mark.vllm
@pytest.mark.timeout(900)
def test_slots_are_as_recorded() -> None:
    recorded: dict[str, Any] = json.loads(RECORD.read_text())
    configs = {path.stem: yaml.safe_load(path.read_text())["config"] for path in sorted((CASES / "kv").glob("*.yaml"))}
    anew = bool(os.environ.get("MIGRATE_RECORD"))
    asked = {name: {"config": config, "rank": 16, "slots": 2} for name, config in configs.items()
             if anew or name in recorded}  # fmt: skip
    done = python(PROBE, json.dumps(asked))
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.partition("RESULT")[2])
    made = {name: {"bytes": one["bytes"]} for name, one in found.items() if "bytes" in one}
    if anew:
        RECORD.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in made.items()) + "\n}\n")
        recorded = made
    assert len(made) >= 8
    assert made == recorded, {name: one.get("error") for name, one in found.items() if "error" in one}
