"""What tests on the real Docker Engine share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from stage import NAME, SETTINGS, Stage

from demo.scene import ENGINE, Scene
from orchestrator.clients.docker import Docker

IMAGES = ("migrate/standin-ollama:dev", "migrate/standin-vllm:dev", "migrate/gateway:dev", "migrate/sidecar:dev")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """An Ollama container that owns a port, with nothing planned yet; shared by a module's tests, in their order."""
    docker = Docker()
    if docker.version() is None or not all(docker.image_exists(image) for image in IMAGES):
        pytest.fail(f"needs a Docker Engine with the images {', '.join(IMAGES)}")
    folder: Path = tmp_path_factory.mktemp("stage")
    scene = Scene("standin", folder, name=NAME, ollama=f"{NAME}-ollama", ports=(25000, 25480))
    stage = Stage(scene)
    faults = {"volumes": [f"{stage.faults}:/faults:ro"]}
    environment = {"STANDIN_START_S": "2", "STANDIN_TOKEN_MS": "3", "STANDIN_FAULTS": "/faults"}
    scene.extra = {**SETTINGS, "engines": {ENGINE: {
        "max_model_len": 2048, "max_num_seqs": 16, "kv_cache": "1GiB", "gated": False, "env": environment, **faults,
    }}}
    try:
        scene.set()
        yield stage
    finally:
        scene.clear()
