"""One GPU for everybody: Ollama first, then each vLLM alone, also when nobody who knows the order is there."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from vram_bench import (
    ENGINES,
    GIB,
    LARGE,
    OLLAMA,
    ORIGINAL,
    PROJECT,
    ROOT,
    SMALL,
    VLLM,
    Bench,
    Watch,
    docker,
    holders,
    until,
)

from orchestrator.clients.docker import Docker

pytestmark = [pytest.mark.docker, pytest.mark.alone]
IMAGES = (OLLAMA, VLLM, "migrate/gateway:dev", "migrate/sidecar:dev")
TOTAL = 24 * GIB
INCONCLUSIVE = 7  # the load test has no verdict on a busy machine; everything runs by then
HALF = dict.fromkeys(ENGINES, 50.0)
KEPT: dict[str, bool] = {}  # whether the weights outlived a start of the whole stack


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The machine; the tests below go through one migration in their order."""
    found = Docker()
    if found.version() is None or not all(found.image_exists(image) for image in IMAGES):
        pytest.fail(f"needs a Docker Engine with the images {', '.join(IMAGES)}")
    if "could not select device driver" in docker("run", "--rm", "--gpus", "device=0", VLLM, "--version", check=False):
        pytest.skip("this Docker Engine has no driver for GPUs, not even a pretended one")
    folder = tmp_path_factory.mktemp("vram")
    subprocess.run([sys.executable, ROOT / "tests/gpu/nvml/build.py", folder / "nvml"], check=True)
    made = Bench(folder, folder / "nvml")
    try:
        made.set()
        yield made
    finally:
        made.clear()


def in_order(bench: Bench, watch: Watch) -> None:
    """Assert that Ollama had loaded all before an engine began, that engines took turns, and that nobody spilled."""
    loaded = [at for at, text in bench.log("ollama") if "loaded runners" in text]
    starts = {name: bench.log(f"vllm-{name}") for name in ENGINES.values()}
    begun = sorted((at, name) for name, log in starts.items() for at, text in log if "migrate: starting vllm" in text)
    ready = {name: at for name, log in starts.items() for at, text in log if "Application startup complete" in text}
    assert len(loaded) == len(begun) == len(ready) == 2
    assert max(loaded) < begun[0][0]
    assert ready[begun[0][1]] < begun[1][0], "both engines measured the GPU at once"
    assert {name: size == vram for name, (size, vram) in bench.loaded().items()} == dict.fromkeys(ENGINES, True)
    assert watch.most <= TOTAL
    held = sum(size for _, label, size in holders(bench.ledger) if label.startswith("cache"))
    assert held >= bench.promised(), "a cache is smaller than the plan says"


def test_plan_fits_everything_on_the_one_gpu(bench: Bench) -> None:
    before = holders(bench.ledger)
    said = bench.migrate("plan", "--ollama", bench.url, "--model", LARGE, "--model", SMALL)
    assert "GPU 0: NVIDIA GeForce RTX 4090, 24.0 GiB" in said
    assert "GPU 0: 24.0 GiB = Ollama" in said
    assert [one[:2] for one in holders(bench.ledger)] == [one[:2] for one in before]
    spec = bench.spec()
    assert spec["accelerator"] == "nvidia"
    assert spec["ollama"]["gpus"] == ["0"]
    assert set(spec["ollama"]["pinned"]) == set(ENGINES)
    asked = sum(math.ceil(TOTAL * one["gpu_memory_utilization"]) for one in spec["engines"].values())
    assert all(one["gpus"] == ["0"] and one["kv_cache"] for one in spec["engines"].values())
    assert asked < TOTAL - bench.loaded()[LARGE][0]
    config = json.loads(docker("compose", "--file", str(bench.stack / "compose.yaml"), "config", "--format", "json"))
    for service in ("ollama", *(f"vllm-{name}" for name in ENGINES.values())):
        device = config["services"][service]["deploy"]["resources"]["reservations"]["devices"][0]
        assert (device["driver"], device["device_ids"], device["capabilities"]) == ("nvidia", ["0"], ["gpu"])


def test_up_starts_ollama_then_one_engine_after_the_other(bench: Bench) -> None:
    with bench.watched() as watch:
        bench.migrate("up", "--yes", codes=(0, INCONCLUSIVE))
    in_order(bench, watch)
    reserved = bench.service(f"vllm-{ENGINES[LARGE]}")
    assert [one.device_ids for one in reserved.gpus] == [("0",)]
    seen = docker("exec", reserved.id, "nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")
    assert seen.split() == ["24576"]


def test_plan_again_does_not_take_its_own_engines_for_strangers(bench: Bench) -> None:
    said = bench.migrate("plan")
    assert "GPU 0: 24.0 GiB = Ollama" in said
    assert not re.search(r"others [0-9]", said)


def test_plan_refuses_what_does_not_fit(bench: Bench) -> None:
    written = (bench.stack / "migrate.yaml").read_text()
    rendered = (bench.stack / "compose.yaml").read_text()
    bench.edit(lambda spec: spec["engines"][ENGINES[LARGE]].update(gpu_memory_utilization=0.9))
    said = bench.migrate("plan", codes=(3,))
    assert "the plan does not fit: GPU 0" in said
    assert (bench.stack / "compose.yaml").read_text() == rendered
    (bench.stack / "migrate.yaml").write_text(written)


def restarted_engine(bench: Bench) -> None:
    """Restart dockerd, as a reboot does: it starts everything at once."""
    home = Path(os.environ.get("MIGRATE_CACHE") or Path.home() / ".cache" / "migrate") / "engine"
    if os.environ.get("DOCKER_HOST") != f"unix://{home}/docker.sock":
        pytest.skip("this Docker Engine is not ours to restart")
    ours = {one.id for one in bench.docker.containers(project=PROJECT)}
    if any(one.id not in ours for one in bench.docker.containers(running=True)):
        pytest.skip("somebody else's containers run on this engine")
    subprocess.run([ROOT / "tools" / "engine", "restart"], check=True, capture_output=True)


def composed(bench: Bench) -> None:
    bench.compose("stop")
    bench.compose("up", "--detach")


def killed(bench: Bench) -> None:
    """Kill the engines on both sides, and let Compose start what is missing."""
    docker("kill", *(bench.service(name).id for name in ("ollama", *(f"vllm-{name}" for name in ENGINES.values()))))
    bench.compose("up", "--detach")


def crashed(bench: Bench) -> None:
    """Let the engines on both sides die; Docker starts them again by itself."""
    for one in [bench.service(name) for name in ("ollama", *(f"vllm-{name}" for name in ENGINES.values()))]:
        try:
            os.kill(one.pid, signal.SIGKILL)
        except (PermissionError, ProcessLookupError):
            pytest.skip("the containers' processes cannot be reached from here")


@pytest.mark.parametrize("again", [
    restarted_engine, composed,
    pytest.param(killed, marks=pytest.mark.full), pytest.param(crashed, marks=pytest.mark.full),
])
def test_order_holds_whoever_starts_it(bench: Bench, again: Callable[[Bench], None]) -> None:
    bench.shift(HALF)
    gone = {one.id: one.started_at for one in bench.docker.containers(project=PROJECT, running=True)}
    guarded = bench.service("guard").started_at
    with bench.watched() as watch:
        again(bench)
        until("everything has started anew", lambda: anew(bench, gone))
        until("both sides answer", bench.serve)
    in_order(bench, watch)
    assert [bench.chat(model) for model in ENGINES] == [200, 200]
    weights = bench.weights()
    if bench.service("guard").started_at != guarded:
        KEPT[again.__name__] = weights == HALF
    elif weights != HALF:
        # The guard saw an engine die, and lowering is its work; it says so.
        assert all(weights.get(model, 0.0) in (0.0, 50.0) for model in ENGINES)
        assert any('"lowered"' in text for _, text in bench.log("guard"))


def test_weights_are_as_they_were_after_a_restart() -> None:
    if not KEPT:
        pytest.skip("nothing was started anew")
    assert all(KEPT.values()), KEPT


def anew(bench: Bench, before: dict[str, str]) -> bool:
    names = ("ollama", *(f"vllm-{name}" for name in ENGINES.values()))
    with suppress(AssertionError):
        return all(one.running and before.get(one.id) != one.started_at for one in map(bench.service, names))
    return False


def test_up_explains_an_engine_that_finds_too_little_memory(bench: Bench) -> None:
    bench.edit(lambda spec: spec["engines"][ENGINES[LARGE]].update(gpu_memory_utilization=0.9))
    said = bench.migrate("up", "--yes", codes=(1,))
    assert "Free memory on device cuda:0" in said
    assert "less than desired GPU memory utilization (0.9, 21.60 GiB)" in said
    assert f"vLLM ({ENGINES[LARGE]}) did not start: the GPU has " in said
    assert f"next:  lower engines/{ENGINES[LARGE]}/gpu_memory_utilization" in said
    assert bench.chat(LARGE) == 200
    assert {name: size == vram for name, (size, vram) in bench.loaded().items()} == dict.fromkeys(ENGINES, True)


@pytest.mark.full
def test_the_wrong_way_round_ollama_spills_without_a_word(bench: Bench) -> None:
    """What all this is for: a vLLM with the default utilisation first, then Ollama."""
    bench.migrate("down", "--volumes", "--confirm", "vram", "--yes")
    docker("stop", ORIGINAL)
    until("the GPU is free", lambda: not holders(bench.ledger))
    docker(
        "run", "--detach", "--name", f"{ORIGINAL}-rival", "--gpus", "device=0", "--volume", f"{bench.ledger}:/ledger",
        "--env", "STANDIN_LEDGER=/ledger", "--env", "STANDIN_START_S=0.5", VLLM, "tiny/model-1b", "--max-model-len", "2048",
    )  # fmt: skip
    until("vLLM holds the GPU", lambda: sum(size for _, _, size in holders(bench.ledger)) > 0.85 * TOTAL)
    docker("start", ORIGINAL)
    until("Ollama answers", lambda: bench.answers("/api/version"))
    bench.post("/api/generate", {"model": LARGE})
    size, vram = bench.loaded()[LARGE]
    assert 0 < vram < size
