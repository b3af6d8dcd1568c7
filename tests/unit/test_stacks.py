"""The examples in stacks/: rendered as the templates do today, sound in arithmetic, accepted by Compose."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from orchestrator.decide.budget import Running, proof
from orchestrator.decide.catalog import load
from orchestrator.facts import Facts, Gpu, Loaded, OllamaFacts
from orchestrator.render import render
from orchestrator.spec import load_spec

ROOT = Path(__file__).parent.parent.parent
STACKS = sorted(path.parent for path in (ROOT / "stacks").glob("*/migrate.yaml"))
WRITTEN_BY_HAND = {"migrate.yaml", "README.md"}
GPUS = {  # MiB as nvidia-smi reports them
    "demo-cpu": [],
    "embedding": [16376],
    "llama3-1-8b-24gb": [24564],
    "llama3-1-8b-40gb": [40960],
    "llama3-1-8b-two-gpus": [24564, 24564],
    "llama3-3-70b-tp2": [81559, 81559],
    "two-models-two-gpus": [24564, 24564],
}
each = pytest.mark.parametrize("folder", STACKS, ids=lambda folder: folder.name)


def compose() -> list[str] | None:
    """Return a Compose command that needs no daemon."""
    plugins = [Path.home() / ".docker/cli-plugins", *map(Path, ("/usr/libexec/docker/cli-plugins",
               "/usr/local/lib/docker/cli-plugins", "/usr/lib/docker/cli-plugins"))]  # fmt: skip
    for path in [Path(os.environ.get("DOCKER_CONFIG", "/nonexistent")) / "cli-plugins", *plugins]:
        if (path / "docker-compose").is_file():
            return [str(path / "docker-compose")]
    found = shutil.which("docker-compose")
    return [found] if found else None


@each
def test_rendered_files_are_what_the_templates_give_today(folder: Path) -> None:
    files = render(load_spec(folder / "migrate.yaml"))
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    there = {name for name in there if not name.startswith("secrets/") and name != ".env"}
    assert there == WRITTEN_BY_HAND | set(files), "run: python tools/stacks.py"
    stale = [name for name, text in files.items() if (folder / name).read_text(encoding="utf-8") != text]
    assert stale == [], "run: python tools/stacks.py"


def test_every_example_has_its_gpus_stated() -> None:
    assert sorted(GPUS) == [folder.name for folder in STACKS]


@each
def test_arithmetic_holds(folder: Path) -> None:
    spec = load_spec(folder / "migrate.yaml")
    gpus = tuple(
        Gpu(str(at), f"GPU-{at}", "x", mib * 2**20, mib * 2**20, 8.0) for at, mib in enumerate(GPUS[folder.name])
    )
    found = proof(spec, Facts(OllamaFacts("", ""), gpus), load())
    assert found.problems == []
    if spec.accelerator == "nvidia":
        assert found.unknown == ()
        assert sum(len(budget.shares) for budget in found.budgets) == sum(len(e.gpus) for e in spec.engines.values())


@each
def test_arithmetic_still_holds_while_the_engines_run(folder: Path) -> None:
    spec = load_spec(folder / "migrate.yaml")
    free = 2 * 2**30
    gpus = tuple(Gpu(str(at), f"GPU-{at}", "x", mib * 2**20, free, 8.0) for at, mib in enumerate(GPUS[folder.name]))
    loaded = tuple(Loaded(name, 4 * 2**30, 4 * 2**30, 1) for name in spec.ollama.pinned)
    facts = Facts(OllamaFacts("", "", loaded=loaded), gpus)
    own = [Running(engine.gpus, engine.gpu_memory_utilization) for engine in spec.engines.values()]
    running = proof(spec, facts, load(), own)
    stranger = proof(spec, facts, load())
    for mine, theirs in zip(running.budgets, stranger.budgets, strict=True):
        taken = sum(share.requested + share.ask.context() for share in mine.shares)
        assert theirs.others - mine.others == min(theirs.others, taken)
    assert bool(stranger.problems) == (spec.accelerator == "nvidia")


@each
def test_a_smaller_gpu_is_refused(folder: Path) -> None:
    spec = load_spec(folder / "migrate.yaml")
    if spec.accelerator == "cpu":
        return
    smaller = [int(mib * 0.5) for mib in GPUS[folder.name]]
    gpus = tuple(Gpu(str(at), f"GPU-{at}", "x", mib * 2**20, mib * 2**20, 8.0) for at, mib in enumerate(smaller))
    assert proof(spec, Facts(OllamaFacts("", ""), gpus), load()).problems


@pytest.mark.docker
@each
@pytest.mark.parametrize("eager", [False, True], ids=["", "eager"])
def test_compose_accepts_it_with_the_documented_env(folder: Path, eager: bool, tmp_path: Path) -> None:
    command = compose()
    if command is None:
        pytest.fail("no Compose v2 plugin on this machine")
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("secrets"))
    files = ["-f", "compose.yaml", *(["-f", "compose.eager.yaml"] if eager else [])]
    clean = {key: value for key, value in os.environ.items() if key != "HF_TOKEN"}
    for env in (copy / ".env.example", ROOT / ".env.example"):
        shutil.copy(env, copy / ".env")
        done = subprocess.run([*command, *files, "config"], cwd=copy, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "variable is not set" not in done.stderr
        assert done.stdout.count("--enforce-eager") == (len(load_spec(folder / "migrate.yaml").engines) if eager else 0)


@pytest.mark.docker
@each
def test_a_gated_repository_fails_fast_without_a_token(folder: Path, tmp_path: Path) -> None:
    command = compose()
    if command is None:
        pytest.fail("no Compose v2 plugin on this machine")
    gated = any(engine.gated for engine in load_spec(folder / "migrate.yaml").engines.values())
    shutil.copytree(folder, tmp_path / "s", ignore=shutil.ignore_patterns("secrets", ".env"))
    clean = {key: value for key, value in os.environ.items() if key != "HF_TOKEN"}
    done = subprocess.run([*command, "-f", "compose.yaml", "config", "-q"], cwd=tmp_path / "s", env=clean,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert (done.returncode != 0) == gated
    assert ("HF_TOKEN" in done.stderr) == gated
