"""The stage of tests/integration, with the real vLLM (its CPU build) behind the gateway."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))

from stage import Stage

from demo.scene import ENGINE, SHARED_CPU, TINY, Scene, models_folder
from orchestrator.clients.docker import Docker

IMAGES = ("migrate/standin-ollama:dev", "migrate/vllm-cpu:dev", "migrate/gateway:dev", "migrate/sidecar:dev")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """An Ollama container that owns a port; the engine to come is a real vLLM."""
    docker = Docker()
    if docker.version() is None or not all(docker.image_exists(image) for image in IMAGES):
        pytest.fail(f"needs a Docker Engine with the images {', '.join(IMAGES)}")
    folder: Path = tmp_path_factory.mktemp("real")
    scene = Scene("standin", folder, name="real", ollama="real-ollama", ports=(26000, 26480))
    scene.extra = {
        "images": {"vllm": "migrate/vllm-cpu:dev"},
        "engines": {ENGINE: {
            "repo": TINY, "max_model_len": 2048, "max_num_seqs": 16, "kv_cache": "1GiB", "gated": False,
            "enforce_eager": True, "volumes": [f"{models_folder()}:/models:ro"],
            "env": {"HF_HUB_OFFLINE": "1", **SHARED_CPU},
        }},
        # Two cores serve both sides and the clients: what is asserted is what arrives, not how fast.
        # Ollama is a stand-in here, with words of its own: another model, on purpose.
        # The tiny model's template knows no tools, so nobody may need them here.
        "parity": {"alike": 0, "vary": 1, "suites": [], "uses": [
            "streaming", "usage", "stop", "limits", "sampling", "logprobs", "json", "reasoning", "system", "vision",
            "errors", "native", "lists", "names", "completions", "responses", "messages", "context",
        ]},
        "load": {"users": [1, 2], "requests_per_user": 2, "max_tokens": 8, "latency_factor": 100.0,
                 "throughput_factor": 0.0, "baseline": False},
        "cutover": {"bake": "2s", "min_requests": 2, "patience": "120s", "lease": "15s",
                    "thresholds": {"ttft_ratio": 1000.0, "e2e_ratio": 1000.0}},
    }
    try:
        scene.set()
        yield Stage(scene)
    finally:
        scene.clear()
