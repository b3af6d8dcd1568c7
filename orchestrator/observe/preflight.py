"""Tries out what `doctor` judges: Docker's runtimes, ports, disks, a container with a GPU, the Hub. Changes nothing."""

from __future__ import annotations

import os
import resource
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path

from orchestrator.clients.docker import Docker
from orchestrator.clients.docker.info import gpu_answer, info, mountpoint
from orchestrator.clients.hub import Hub, local_weights, snapshot
from orchestrator.decide.hubfact import UNCHECKED, HubFact
from orchestrator.decide.mapping import is_local
from orchestrator.decide.preflight import Probes
from orchestrator.errors import MigrateError
from orchestrator.facts import Facts
from orchestrator.observe import hub as hub_look
from orchestrator.rendering.engine import volumes_of
from orchestrator.spec import Spec
from orchestrator.spec_engine import Engine

HUB_S = 15.0            # longest wait for the Hub; afterwards it was not checked
_CACHE = "/root/.cache/huggingface"
_HOOKS = ("nvidia-container-runtime-hook", "nvidia-container-toolkit")


def look(facts: Facts, spec: Spec | None, docker: Docker, env: Mapping[str, str]) -> Probes:
    """Return what the trials gave; never raises. `env` is the stack's .env over the process's environment."""
    usable = facts.docker is not None and not facts.docker.problem
    said = info() if usable else {}
    runtimes = said.get("Runtimes")
    images = sorted({one.image or spec.images.vllm for one in spec.engines.values()}) if spec else []
    here = tuple(image for image in images if usable and _there(docker, image))
    local = not os.environ.get("DOCKER_HOST", "").startswith(("ssh:", "tcp:"))
    root = str(said.get("DockerRootDir") or "")
    root = root if root and local and Path(root).is_dir() else ""
    places = _places(spec, root) if root and spec else {}
    paths = [root, *places.values()] if root else []
    return Probes(
        runtimes=tuple(sorted(runtimes)) if isinstance(runtimes, dict) else None,
        cdi=any("nvidia.com/gpu" in str(one) for one in said.get("DiscoveredDevices") or ()),
        hook=local and any(shutil.which(one) for one in _HOOKS),
        docker_root=root,
        disk_free={path: size for path in paths if (size := _free(path)) is not None},
        disk_device={path: number for path in paths if (number := _device(path)) is not None},
        weights_at=places,
        weights_here={name: _weights(path, spec.engines[name]) for name, path in places.items()} if spec else {},
        gpu_container=_gpu(facts, spec, docker, here) if usable else None,
        ports=_ports(spec, docker) if usable else {},
        token=bool(env.get("HF_TOKEN") or env.get("HUGGING_FACE_HUB_TOKEN")),
        hub=_hub(spec, env),
        ram=_ram(),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        images_here=here,
    )


def dotenv(folder: Path) -> dict[str, str]:
    """Return the variables of a folder's .env; empty where there is none."""
    try:
        lines = (folder / ".env").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    pairs = [line.strip().removeprefix("export ").partition("=") for line in lines if not line.lstrip().startswith("#")]
    return {name.strip(): value.strip().strip("\"'") for name, equals, value in pairs if equals}


def _gpu(facts: Facts, spec: Spec | None, docker: Docker, here: tuple[str, ...]) -> str | None:
    """Try a container with all GPUs, with an image that is here: vLLM's, else the one Ollama runs from."""
    if (spec is not None and spec.accelerator != "nvidia") or not facts.gpus:
        return None
    own = facts.ollama.container.image if facts.ollama.container else spec.ollama.image if spec else ""
    image = here[0] if here else own if own and _there(docker, own) else ""
    return gpu_answer(image) if image else None


def _there(docker: Docker, image: str) -> bool:
    try:
        return docker.image_exists(image)
    except MigrateError:
        return False


def _places(spec: Spec, root: str) -> dict[str, str]:
    """Return where on this machine each engine's cache of weights lies; Docker's data root where that is to come."""
    found = {}
    for name, engine in spec.engines.items():
        pairs = [mount.split(":") for mount in volumes_of(engine)]
        source = next((one[0] for one in pairs if len(one) > 1 and one[1].rstrip("/") == _CACHE), "")
        own = source == "hf-cache" and "hf-cache" not in {mount.partition(":")[0] for mount in engine.volumes}
        if source.startswith("/"):
            found[name] = source
        else:
            found[name] = mountpoint(f"migrate-{spec.name}_hf-cache" if own else source) or root
    return found


def _weights(path: str, engine: Engine) -> int | None:
    """Return the bytes of an engine's weights that its cache holds; None where it cannot be read."""
    try:
        list(Path(path).iterdir())
    except FileNotFoundError:
        return 0
    except OSError:
        return None
    folder = snapshot(Path(path) / "hub", engine.repo)
    return (local_weights(folder) or 0) if folder else 0


def _existing(path: str) -> Path | None:
    """Return the deepest folder of a path that is there: what is to be made will lie on its file system."""
    return next((one for one in (Path(path), *Path(path).parents) if _seen(one)), None)


def _seen(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:     # a folder above it is closed to us
        return False


def _free(path: str) -> int | None:
    try:
        there = _existing(path)
        return shutil.disk_usage(there).free if there else None
    except OSError:
        return None


def _device(path: str) -> int | None:
    try:
        there = _existing(path)
        return there.stat().st_dev if there else None
    except OSError:
        return None


def _hub(spec: Spec | None, env: Mapping[str, str]) -> dict[str, HubFact]:
    """Ask the Hub of every repository, with the token that the containers will have, within HUB_S."""
    repos = sorted({one.repo for one in spec.engines.values() if not is_local(one.repo)}) if spec else []
    found: dict[str, HubFact] = {}

    def ask() -> None:
        with Hub(env) as hub:
            found.update(hub_look.look(repos, hub))

    if repos:
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(HUB_S)
    late = f"{UNCHECKED} (the Hub did not answer in {HUB_S:g} s)"
    return {repo: found.get(repo) or HubFact(repo, UNCHECKED, late) for repo in repos}


def _ports(spec: Spec | None, docker: Docker) -> dict[int, str]:
    found = {}
    for port in spec.gateway.ports().values() if spec else ():
        try:
            found[port] = docker.port_holder(port)
        except MigrateError:
            continue
    return found


def _ram() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
