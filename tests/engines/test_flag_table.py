"""The packaged list of flags is the one of the real vLLM's own parser."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
IMAGE = os.environ.get("MIGRATE_VLLM_IMAGE", "migrate/vllm-cpu:dev")


@pytest.mark.docker
@pytest.mark.vllm
def test_the_table_is_what_the_release_says() -> None:
    script = (ROOT / "tools" / "vllm_flags.py").read_text(encoding="utf-8")
    done = subprocess.run(["docker", "run", "--rm", "-i", "--network", "none", "--entrypoint", "python3", IMAGE, "-", "/dev/stdout"],
                          input=script, capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout[done.stdout.index('{\n"vllm"') :])
    packaged = json.loads((ROOT / "orchestrator" / "data" / "vllm-flags.json").read_text(encoding="utf-8"))
    assert said == packaged
