"""Answers of real vLLMs: two copies of one model are never red, and what is planted is found and named.

The model is tiny and knows nothing, so what its answers say proves nothing here; what both sides have in common does.
MIGRATE_ANSWER_RUNS: how often the copies are compared (20).
"""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from answers_proxy import Proxy

from demo.scene import SHARED_CPU, TINY, free_port, models_folder
from orchestrator.checks import Side, Verdict
from orchestrator.checks.answers.ask import Manner
from orchestrator.checks.answers.builtin import builtin_suite
from orchestrator.checks.answers.terms import Terms
from orchestrator.checks.answers.whole import measure_parity, recompute
from orchestrator.checks.parity_rules import Terms as SmokeTerms
from orchestrator.checks.prompts import load_prompts

pytestmark = [pytest.mark.docker, pytest.mark.vllm, pytest.mark.full, pytest.mark.timeout(3600)]
IMAGE = "migrate/vllm-cpu:dev"
MODEL = "llama3.1:8b"
RUNS = int(os.environ.get("MIGRATE_ANSWER_RUNS", "20"))
READY_S = 400
Start = Callable[..., str]
# The matrices of the layers in another order: the same shapes, the same spread of values, another model.
SHUFFLE = f"""
import shutil, torch
from safetensors.torch import load_file, save_file
shutil.copytree("{TINY}", "/out/shuffled")
weights = load_file("{TINY}/model.safetensors")
torch.manual_seed(3)
for name, one in weights.items():
    if ".layers." in name and one.dim() == 2:
        weights[name] = one.flatten()[torch.randperm(one.numel())].reshape(one.shape).contiguous()
save_file(weights, "/out/shuffled/model.safetensors", metadata={{"format": "pt"}})
"""


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts a vLLM with flags of one's own and returns its address; the same flags give the same engine."""
    folder = tmp_path_factory.mktemp("weights")
    folder.chmod(0o755)
    containers: list[str] = []
    running: dict[tuple[str, ...], str] = {}

    def begin(*flags: str, model: str = TINY) -> str:
        if (key := (model, *flags)) not in running:
            containers.append(f"migrate-answers-{uuid.uuid4().hex[:8]}")
            running[key] = _engine(containers[-1], folder, model, flags)
        return running[key]

    begin.folder = folder  # type: ignore[attr-defined]
    try:
        yield begin
    finally:
        for container in containers:
            subprocess.run(["docker", "rm", "-f", container], check=False, capture_output=True)


def _engine(container: str, folder: Path, model: str, flags: tuple[str, ...]) -> str:
    port = free_port(27400)
    env = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", **SHARED_CPU}
    docker("run", "-d", "--name", container, "--network", "host", "--shm-size", "1g",
           *(word for key, value in env.items() for word in ("-e", f"{key}={value}")),
           "-v", f"{models_folder()}:/models:ro", "-v", f"{folder}:/made:ro", IMAGE, model, "--port", str(port),
           "--host", "127.0.0.1", "--served-model-name", MODEL, "--max-model-len", "2048", "--enforce-eager",
           "--generation-config", "vllm", *flags)  # fmt: skip
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200:
                return f"http://127.0.0.1:{port}"
        except httpx.TransportError:
            time.sleep(1)
        if docker("inspect", "-f", "{{.State.Running}}", container) != "true":
            break
    done = subprocess.run(["docker", "logs", "--tail", "40", container], check=False, capture_output=True, text=True)
    raise AssertionError(done.stdout + done.stderr)


def compared(old: str, new: str) -> Verdict:
    lines = measure_parity(
        Side("ollama", old), Side("vllm", new), MODEL, prompts=load_prompts(), suite=builtin_suite(),
        smoke=SmokeTerms(MODEL), terms=Terms(), manner=Manner(),
    )  # fmt: skip
    return recompute(lines)


def told(verdict: Verdict) -> str:
    groups = verdict.evidence.get("groups", ())
    return "\n".join([verdict.summary, *(f"{one['name']} {one['result']}: {one['summary']}" for one in groups)])


FIRST = ("--max-num-seqs", "16", "--seed", "1")
SECOND = ("--max-num-seqs", "3", "--seed", "2", "--max-num-batched-tokens", "2048")


def test_two_copies_are_never_red(start: Start) -> None:
    old, new = start(*FIRST), start(*SECOND)
    for at in range(RUNS):
        began = time.monotonic()
        verdict = compared(old, new)
        print(f"run {at}: {time.monotonic() - began:.0f} s\n{told(verdict)}")
        assert verdict.result == "pass", told(verdict)


def test_shuffled_weights_are_named(start: Start) -> None:
    folder: Path = start.folder  # type: ignore[attr-defined]
    docker("run", "--rm", "--network", "none", "--user", "0", "-v", f"{models_folder()}:/models:ro",
           "-v", f"{folder}:/out", "--entrypoint", "python3", IMAGE, "-c", SHUFFLE)  # fmt: skip
    verdict = compared(start(*FIRST), start(*SECOND, model="/made/shuffled"))
    assert verdict.result == "fail"
    assert verdict.summary.startswith("weights: "), told(verdict)
    assert "other weights" in verdict.summary


@pytest.mark.parametrize("temperature, word", [(0.0, "temperature 0"), (0.3, "lower temperature")])
def test_another_temperature_default_is_named(start: Start, temperature: float, word: str) -> None:
    config = f'{{"temperature": {temperature}}}'
    verdict = compared(start(*FIRST), start(*SECOND, "--override-generation-config", config))
    assert verdict.result == "fail"
    assert verdict.summary.startswith("defaults: "), told(verdict)
    assert word in verdict.summary


def test_a_dropped_stop_word_is_named(start: Start) -> None:
    with Proxy(start(*SECOND), lambda body: body.pop("stop", None)) as careless:
        verdict = compared(start(*FIRST), careless.url)
    assert verdict.result == "fail"
    assert "stop: " in told(verdict)
    assert any(one["name"] == "stop" and one["result"] == "fail" for one in verdict.evidence["groups"]), told(verdict)
