"""Tries out what `doctor` judges: Docker's runtimes, ports, disks, a container with a GPU. Changes nothing."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Mapping
from pathlib import Path

from orchestrator.clients.docker import Docker
from orchestrator.clients.docker.info import gpu_answer, info
from orchestrator.decide.preflight import Probes
from orchestrator.errors import MigrateError
from orchestrator.facts import Facts
from orchestrator.spec import Spec


def look(facts: Facts, spec: Spec | None, docker: Docker, env: Mapping[str, str]) -> Probes:
    """Return what the trials gave; never raises. `env` is the stack's .env over the process's environment."""
    usable = facts.docker is not None and not facts.docker.problem
    said = info() if usable else {}
    runtimes = said.get("Runtimes")
    images = sorted({one.image or spec.images.vllm for one in spec.engines.values()}) if spec else []
    here = tuple(image for image in images if usable and _there(docker, image))
    root = str(said.get("DockerRootDir") or "")
    local = bool(root) and Path(root).is_dir() and not os.environ.get("DOCKER_HOST", "").startswith(("ssh:", "tcp:"))
    nvidia = spec is None or spec.accelerator == "nvidia"
    return Probes(
        runtimes=tuple(sorted(runtimes)) if isinstance(runtimes, dict) else None,
        cdi=any("nvidia.com/gpu" in str(one) for one in said.get("DiscoveredDevices") or ()),
        docker_root=root if local else "",
        disk_free=_free(root) if local else {},
        gpu_container=gpu_answer(here[0]) if here and nvidia and facts.gpus else None,
        ports=_ports(spec, docker) if usable else {},
        token=bool(env.get("HF_TOKEN") or env.get("HUGGING_FACE_HUB_TOKEN")),
        ram=_ram(),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        images_here=here,
    )


def _there(docker: Docker, image: str) -> bool:
    try:
        return docker.image_exists(image)
    except MigrateError:
        return False


def _free(path: str) -> dict[str, int]:
    try:
        return {path: shutil.disk_usage(path).free}
    except OSError:
        return {}


def _ports(spec: Spec | None, docker: Docker) -> dict[int, str]:
    found = {}
    for port in (spec.gateway.port, spec.gateway.control_port) if spec else ():
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
