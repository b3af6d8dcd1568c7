"""Docker and its way to the GPUs."""

from __future__ import annotations

import re

from orchestrator.decide.preflight.result import Probes, Result
from orchestrator.facts import Facts

OLDEST_ENGINE = 23
# What Docker or NVIDIA's toolkit say when no container can get a GPU, whatever its image.
_NO_WAY = re.compile(
    r"could not select device driver|unknown or invalid runtime|nvidia-container-cli|unresolvable CDI devices",
    re.IGNORECASE,
)
_NO_PROGRAM = re.compile(r"executable file not found|no such file or directory", re.IGNORECASE)
_INSTALL = ("install nvidia-container-toolkit, then `nvidia-ctk runtime configure --runtime=docker` and restart "
            "Docker")  # fmt: skip


def system(facts: Facts) -> Result:
    host = facts.host
    if host.system == "Darwin":
        return Result("fail", "system", "macOS: containers have no GPU here", "plan for a Linux machine: --facts FILE")
    if host.wsl:
        return Result("warn", "system", "WSL2: the GPU is shared with Windows, and its free memory moves",
                      "close what uses the GPU in Windows; give WSL enough memory in .wslconfig")  # fmt: skip
    return Result("ok", "system", host.system) if host.system else Result("not checked", "system", "not seen")


def docker(facts: Facts) -> list[Result]:
    """Engine and Compose; without either nothing can be deployed."""
    seen = facts.docker
    if seen is None:
        return [Result("not checked", "Docker", "not looked at")]
    if seen.problem and not seen.engine:
        fix = "start it, or install Docker Engine and its Compose plugin"
        return [Result("fail", "Docker", seen.problem, fix, blocks=True)]
    engine = Result("ok", "Docker", f"Engine {seen.engine}")
    release = major(seen.engine)
    if release is not None and release < OLDEST_ENGINE:
        engine = Result("warn", "Docker", f"Engine {seen.engine} is older than {OLDEST_ENGINE}",
                        f"update Docker Engine to {OLDEST_ENGINE} or newer")  # fmt: skip
    compose = major(seen.compose)
    if compose is None or compose < 2:
        return [engine, Result("fail", "Compose", f"{seen.compose or 'there is no Compose v2'}",
                               "install the plugin docker-compose-plugin (`docker compose version`)",
                               blocks=True)]  # fmt: skip
    return [engine, Result("ok", "Compose", seen.compose)]


def major(version: str) -> int | None:
    """Return the first number of a version; None where there is none."""
    found = re.match(r"v?(\d+)", version)
    return int(found[1]) if found else None


def runtime(probes: Probes) -> Result:
    """Whether Docker knows a way to NVIDIA GPUs: a runtime, CDI devices, or the hook behind `--gpus`."""
    if probes.runtimes is None:
        return Result("not checked", "nvidia runtime", "Docker was not asked")
    if "nvidia" in probes.runtimes or probes.cdi:
        return Result("ok", "nvidia runtime", "Docker knows it" if "nvidia" in probes.runtimes else "by CDI")
    if probes.gpu_container == "" or probes.hook:
        return Result("ok", "nvidia runtime", "none is registered, but `--gpus` works by NVIDIA's hook")
    return Result("fail", "nvidia runtime", f"Docker has only {', '.join(probes.runtimes) or 'none'}", _INSTALL,
                  blocks=probes.gpu_container is None or bool(_NO_WAY.search(probes.gpu_container)))  # fmt: skip


def container(probes: Probes) -> Result:
    """What `nvidia-smi -L` said in a container with all GPUs."""
    said = probes.gpu_container
    if said is None or (_NO_PROGRAM.search(said) and not _NO_WAY.search(said)):
        why = "no image is here to try it with" if said is None else f"the image has no nvidia-smi ({said})"
        return Result("not checked", "GPU in a container", why, "docker run --rm --gpus all ubuntu nvidia-smi")
    if not said:
        return Result("ok", "GPU in a container", "a container sees the GPU")
    if "cuda" in said.lower() and "requirement" in said.lower():
        return Result("fail", "GPU in a container", said, "update the NVIDIA driver, or take an image for an older "
                      "CUDA (-cu129)", blocks=True)  # fmt: skip
    return Result("fail", "GPU in a container", said, f"check the driver (nvidia-smi); {_INSTALL}",
                  blocks=bool(_NO_WAY.search(said)))  # fmt: skip
