"""KV cache pages and weights of the real vLLM classes equal ours, for every configuration in tests/cases/kv.

MIGRATE_VLLM_PYTHON names a command that runs a Python with vLLM in it, in place of the image. What it says is also
kept in tests/cases/kv/recorded.json (MIGRATE_RECORD=1 writes it), so that the plain tests check the same.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.decide.kv import Cache, element_bytes, null_block, sequence_bytes, state_bytes, token_bytes
from orchestrator.decide.shapes import from_config
from orchestrator.decide.weights import parameters, size

HERE = Path(__file__).parent
CASES = Path(os.environ.get("MIGRATE_CASES", HERE.parent / "cases")) / "kv"
IMAGE = os.environ.get("MIGRATE_VLLM_IMAGE", "migrate/vllm-cpu:dev")
RECORD = CASES / "recorded.json"
PROBE = (HERE / "kv_probe.py").read_text()
ENGINE = """
import json, pathlib, sys, tempfile
if __name__ == "__main__":
    from vllm import LLM
    folder = tempfile.mkdtemp()
    pathlib.Path(folder, "config.json").write_text(sys.stdin.read())
    LLM(folder, load_format="dummy", skip_tokenizer_init=True, enforce_eager=True, max_model_len=2048, max_num_seqs=4)
"""


def python(script: str, stdin: str) -> subprocess.CompletedProcess[str]:
    command = shlex.split(os.environ.get("MIGRATE_VLLM_PYTHON", "")) or [
        "docker", "run", "--rm", "-i", "--network", "none", "--shm-size", "1g", "--entrypoint", "python3",
        "-e", "VLLM_CPU_KVCACHE_SPACE=1", "-e", "VLLM_ENABLE_V1_MULTIPROCESSING=0", IMAGE,
    ]  # fmt: skip
    return subprocess.run([*command, "-c", script], input=stdin, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def cases() -> dict[str, dict[str, Any]]:
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted(CASES.glob("*.yaml"))}


@pytest.fixture(scope="module")
def real(cases: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    done = python(PROBE, json.dumps(cases))
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.partition("RESULT")[2])
    if os.environ.get("MIGRATE_RECORD"):
        RECORD.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in found.items()) + "\n}\n")
    return found


@pytest.mark.docker
@pytest.mark.vllm
@pytest.mark.timeout(900)
def test_pages_and_weights_equal_the_real_ones(cases: dict[str, Any], real: dict[str, Any]) -> None:
    assert len(cases) >= 8
    for name, case in cases.items():
        found = real[name]
        assert "error" not in found, f"{name}: {found['error']}"
        shape = from_config(case["config"])
        element = element_bytes(str(case["args"].get("kv_cache_dtype", "auto")))
        cache = Cache(element=element, block=128, batched_tokens=found["batched_tokens"],
                      batches=found["in_flight"] // found["batched_tokens"])  # fmt: skip
        paged = [one for one in found["layers"] if one["spec"] != "MambaSpec"]
        assert token_bytes(shape, cache) == sum(one["page"] / one["block"] for one in paged), name
        admitted = max(found[layout][0] for layout in ("LBHNC", "BLHNC"))
        assert sequence_bytes(shape, found["max_model_len"], cache) == admitted, name
        assert null_block(shape, cache) == found["LBHNC"][1], name
        assert all(one["page"] == state_bytes(shape) for one in found["layers"] if one not in paged), name
        counted = size(parameters(case["config"]), "bf16")
        assert counted.low * 0.98 <= found["bytes"] <= counted.high, name


@pytest.mark.docker
@pytest.mark.vllm
@pytest.mark.timeout(600)
def test_a_whole_engine_reports_the_tokens_that_we_expect(cases: dict[str, Any]) -> None:
    """One real start with dummy weights: 1 GiB of cache, so the log's tokens are 1 GiB over the bytes per token."""
    config = cases["llama-gqa"]["config"]
    done = python(ENGINE, json.dumps(config))
    said = re.search(r"KV cache size: ([\d,]+) tokens", done.stdout + done.stderr)
    assert said, (done.stdout + done.stderr)[-2000:]
    tokens = int(said[1].replace(",", ""))
    assert tokens == 2**30 // int(token_bytes(from_config(config)))
