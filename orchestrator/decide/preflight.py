"""Whether this machine can carry the stack: each thing looked at once, with what to do where it is not right. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.decide import vram
from orchestrator.decide.catalog import Entry, load
from orchestrator.facts import Facts, Gpu
from orchestrator.spec import Spec
from orchestrator.spec_engine import Engine

Status = Literal["ok", "warn", "fail", "not checked"]
IMAGE_DISK = 25 * vram.GIB      # vLLM's image unpacked, with room to unpack it
OTHER_DISK = 3 * vram.GIB       # the other images, logs, compile cache
OLDEST_ENGINE = 23
OPEN_FILES = 1024
# Newest CUDA that a driver branch runs (NVIDIA's release notes).
_DRIVERS = ((580, "13.0"), (575, "12.9"), (570, "12.8"), (565, "12.7"), (560, "12.6"), (555, "12.5"), (550, "12.4"),
            (545, "12.3"), (535, "12.2"), (530, "12.1"), (525, "12.0"), (515, "11.7"), (470, "11.4"))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """One thing that was looked at. `fix` is empty where nothing is to be done."""

    status: Status
    name: str
    text: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.status}: {self.name}: {self.text}" + (f". Fix: {self.fix}" if self.fix else "")


@dataclass(frozen=True, slots=True)
class Probes:
    """What had to be tried out; None where it was not. Sizes in bytes."""

    runtimes: tuple[str, ...] | None = None     # of `docker info`
    cdi: bool = False                           # the engine knows NVIDIA devices by CDI
    docker_root: str = ""                       # where images and volumes lie, if that is on this machine
    disk_free: dict[str, int] = field(default_factory=dict)     # path -> free on its mount
    gpu_container: str | None = None            # empty: it saw a GPU; else what it said
    ports: dict[int, str] = field(default_factory=dict)         # port -> who listens; empty: nobody
    token: bool | None = None                   # HF_TOKEN is there
    ram: int | None = None
    open_files: int | None = None
    images_here: tuple[str, ...] = ()           # need no room any more


def check(facts: Facts, spec: Spec | None = None, probes: Probes | None = None) -> list[Result]:
    """Return every thing that was looked at, in the order in which they build on one another."""
    probes = probes or Probes()
    cpu = spec is not None and spec.accelerator == "cpu"
    found = [_system(facts), *_docker(facts)]
    if not cpu:
        found += [_runtime(probes), _container(probes), *_gpus(facts), *_cuda(facts, spec), *_capability(facts, spec)]
    found += [*_disk(spec, probes), _ram(facts, spec, probes), *_shm(facts, spec), *_ports(facts, spec, probes)]
    return [*found, _files(facts, probes), *_token(spec, probes)]


def failed(results: Iterable[Result]) -> bool:
    return any(one.status == "fail" for one in results)


def _system(facts: Facts) -> Result:
    host = facts.host
    if host.system == "Darwin":
        return Result("fail", "system", "macOS: containers have no GPU here", "plan for a Linux machine: --facts FILE")
    if host.wsl:
        return Result("warn", "system", "WSL2: the GPU is shared with Windows, and its free memory moves",
                      "close what uses the GPU in Windows; give WSL enough memory in .wslconfig")  # fmt: skip
    return Result("ok", "system", host.system) if host.system else Result("not checked", "system", "not seen")


def _docker(facts: Facts) -> list[Result]:
    docker = facts.docker
    if docker is None:
        return [Result("not checked", "Docker", "not looked at")]
    if docker.problem and not docker.engine:
        return [Result("fail", "Docker", docker.problem, "start it, or install Docker Engine and its Compose plugin")]
    major = _major(docker.engine)
    engine = Result("ok", "Docker", f"Engine {docker.engine}")
    if major is not None and major < OLDEST_ENGINE:
        engine = Result("warn", "Docker", f"Engine {docker.engine} is older than {OLDEST_ENGINE}",
                        f"update Docker Engine to {OLDEST_ENGINE} or newer")  # fmt: skip
    compose = _major(docker.compose)
    if compose is None or compose < 2:
        return [engine, Result("fail", "Compose", f"{docker.compose or 'there is no Compose v2'}",
                               "install the plugin docker-compose-plugin (`docker compose version`)")]  # fmt: skip
    return [engine, Result("ok", "Compose", docker.compose)]


def _major(version: str) -> int | None:
    found = re.match(r"v?(\d+)", version)
    return int(found[1]) if found else None


def _runtime(probes: Probes) -> Result:
    if probes.runtimes is None:
        return Result("not checked", "nvidia runtime", "Docker was not asked")
    if "nvidia" in probes.runtimes or probes.cdi:
        return Result("ok", "nvidia runtime", "Docker knows it")
    return Result("fail", "nvidia runtime", f"Docker has only {', '.join(probes.runtimes) or 'none'}",
                  "install nvidia-container-toolkit, then `nvidia-ctk runtime configure --runtime=docker` and restart "
                  "Docker")  # fmt: skip


def _container(probes: Probes) -> Result:
    if probes.gpu_container is None:
        return Result("not checked", "GPU in a container", "no image with nvidia-smi is here to try it with",
                      "docker run --rm --gpus all ubuntu nvidia-smi")  # fmt: skip
    if not probes.gpu_container:
        return Result("ok", "GPU in a container", "a container sees the GPU")
    return Result("fail", "GPU in a container", probes.gpu_container, "check the driver and nvidia-container-toolkit")


def _gpus(facts: Facts) -> list[Result]:
    if not any(one.vendor.lower() in ("nvidia", "") for one in facts.gpus):
        seen = ", ".join(f"{one.name} ({one.vendor}), which this tool cannot use" for one in facts.gpus)
        why = seen or facts.gpu_problem or "none was seen"
        return [Result("fail", "GPU", why, "stay on Ollama, or rehearse with --cpu")]
    return [Result("ok", "GPU", ", ".join(f"{one.name} {vram.gib(one.total)}" for one in facts.gpus))]


def image_cuda(image: str) -> str:
    """Return the CUDA version of a vLLM image by its tag; empty where the tag does not tell.

    Since 0.20 a tag without suffix is CUDA 13.0 and `-cu129` is 12.9; before, the plain one was a 12.x.
    """
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    suffix = re.search(r"-cu(\d{2})(\d)", tag)
    if suffix:
        return f"{suffix[1]}.{suffix[2]}"
    release = re.match(r"v?(\d+)\.(\d+)", tag)
    if tag in ("", "latest", "nightly"):
        return "13.0"
    if not release or "vllm" not in image:
        return ""
    return "13.0" if (int(release[1]), int(release[2])) >= (0, 20) else "12.8"


def driver_cuda(facts: Facts) -> str:
    """Return the newest CUDA that the driver runs: as it says itself, else by its branch; empty: unknown."""
    major = _major(facts.driver)
    return facts.cuda or next((cuda for branch, cuda in _DRIVERS if major is not None and major >= branch), "")


def _cuda(facts: Facts, spec: Spec | None) -> list[Result]:
    images = sorted({engine.image or spec.images.vllm for engine in spec.engines.values()}) if spec else []
    found = []
    for image in images:
        needs, has = image_cuda(image), driver_cuda(facts)
        if not needs or not has:
            missing = "the driver's CUDA version" if needs else f"the CUDA version of {image}"
            found.append(Result("not checked", "driver", f"{missing} is not known"))
        elif _pair(has) >= _pair(needs):
            found.append(Result("ok", "driver", f"{facts.driver or 'it'} runs CUDA {has}; {image} needs {needs}"))
        else:
            other = f"use the image with -cu129, or update the driver for CUDA {needs}" if needs == "13.0" and _pair(
                has) >= (12, 9) else f"update the driver to one for CUDA {needs} or newer"  # fmt: skip
            found.append(Result("fail", "driver", f"{facts.driver or 'it'} runs CUDA {has} at most; {image} needs "
                                f"{needs}", other))  # fmt: skip
    return found


def _pair(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _capability(facts: Facts, spec: Spec | None) -> list[Result]:
    found = []
    for name, engine in (spec.engines if spec else {}).items():
        used = [gpu for wanted in engine.gpus for gpu in facts.gpus if wanted in (gpu.index, gpu.uuid)]
        if len(used) < len(engine.gpus):
            there = ", ".join(gpu.index for gpu in facts.gpus) or "none"
            found.append(Result("fail", f"engine {name}", f"wants GPU {', '.join(engine.gpus)}; there is {there}",
                                f"correct engines.{name}.gpus"))  # fmt: skip
        found += [_runs(name, engine, gpu) for gpu in used]
    return found


def scheme_of(engine: Engine) -> str:
    known = load().by_repo(engine.repo)
    return engine.quantization or (known[1] if known else engine.repo.rpartition("/")[2])


def _runs(name: str, engine: Engine, gpu: Gpu) -> Result:
    needs = vram.minimum_capability(scheme_of(engine))
    if gpu.compute_capability >= needs:
        return Result("ok", f"engine {name}", f"{vram.family(scheme_of(engine))} runs on GPU {gpu.index} "
                      f"(compute capability {gpu.compute_capability})")  # fmt: skip
    fix = "choose a repository in another format, such as AWQ" if gpu.compute_capability >= 7.5 else \
        "stay on Ollama, which runs on older GPUs"  # fmt: skip
    return Result("fail", f"engine {name}", f"{vram.family(scheme_of(engine))} needs compute capability {needs}; GPU "
                  f"{gpu.index} has {gpu.compute_capability}", fix)  # fmt: skip


def weights_bytes(engine: Engine) -> int | None:
    """Return the size of an engine's weights on disk; None where the catalogue does not know the repository."""
    known = load().by_repo(engine.repo)
    entry: Entry | None = known[0] if known else None
    if known is None or entry is None or not entry.numbers.params_b:
        return None
    return vram.Ask("", entry.numbers, known[1]).weights()


def _disk(spec: Spec | None, probes: Probes) -> list[Result]:
    if not probes.docker_root or probes.docker_root not in probes.disk_free:
        return [Result("not checked", "disk", "where Docker keeps images and volumes was not seen")]
    free = probes.disk_free[probes.docker_root]
    engines = list(spec.engines.values()) if spec else []
    sizes = {engine.repo: weights_bytes(engine) for engine in engines if not engine.repo.startswith(("/", "."))}
    elsewhere = {engine.repo for engine in engines if any("/huggingface" in one and one.startswith("/")
                 for one in engine.volumes)}  # fmt: skip
    images = {engine.image or spec.images.vllm for engine in engines} if spec else set()
    needed = IMAGE_DISK * len(images - set(probes.images_here)) + OTHER_DISK
    needed += sum(size or 0 for repo, size in sizes.items() if repo not in elsewhere)
    text = f"{vram.gib(free)} free at {probes.docker_root}; images and weights want about {vram.gib(needed)}"
    found = [Result("ok", "disk", text) if free >= needed else
             Result("fail", "disk", text, "free some, or move Docker's data-root to a larger disk")]  # fmt: skip
    unknown = sorted(repo for repo, size in sizes.items() if size is None)
    if unknown:
        found.append(Result("not checked", "disk", f"the size of {', '.join(unknown)} is not in the catalogue",
                            "look at its files on Hugging Face and leave as much free"))  # fmt: skip
    return found


def _ram(facts: Facts, spec: Spec | None, probes: Probes) -> Result:
    ram = facts.host.ram if facts.host.ram is not None else probes.ram
    if ram is None:
        return Result("not checked", "RAM", "not seen")
    largest = max((weights_bytes(one) or 0 for one in spec.engines.values()), default=0) if spec else 0
    needed = 8 * vram.GIB * max(1, len(spec.engines) if spec else 1)
    text = f"{vram.gib(ram)}; the engines want about {vram.gib(needed)}"
    if ram < needed:
        return Result("warn", "RAM", text, "add memory or swap, or the kernel ends a process while weights load")
    slow = f"; weights of {vram.gib(largest)} do not fit its page cache, so that each start reads the disk"
    return Result("ok", "RAM", text + (slow if largest > ram else ""))


def _shm(facts: Facts, spec: Spec | None) -> list[Result]:
    ranks = max((engine.tensor_parallel for engine in spec.engines.values()), default=1) if spec else 1
    if ranks < 2:
        return []
    if facts.host.shm is None:
        return [Result("not checked", "shared memory", "each engine has its own; the host's was not seen")]
    small = facts.host.shm < vram.GIB
    return [Result("warn" if small else "ok", "shared memory", f"{vram.gib(facts.host.shm)} on the host, {ranks} ranks",
                   "keep shm_size in the stack; do not use ipc: host here" if small else "")]  # fmt: skip


def _ports(facts: Facts, spec: Spec | None, probes: Probes) -> list[Result]:
    if spec is None:
        return []
    found = []
    original = {f"container {name}" for name in (spec.ollama.container, facts.ollama.container.name
                if facts.ollama.container else None) if name}  # fmt: skip
    for port in (spec.gateway.port, spec.gateway.control_port):
        holder = probes.ports.get(port)
        if holder is None:
            found.append(Result("not checked", f"port {port}", "not tried"))
        elif not holder or f"migrate-{spec.name}" in holder:
            found.append(Result("ok", f"port {port}", "free" if not holder else "held by this stack"))
        elif port == spec.gateway.port and (holder in original or "ollama" in holder.lower()):
            found.append(Result("ok", f"port {port}", f"{holder} has it, and gives it up when the gateway takes over"))
        else:
            key = "port" if port == spec.gateway.port else "control_port"
            found.append(Result("fail", f"port {port}", f"{holder} listens there",
                                f"stop it, or set gateway.{key}"))  # fmt: skip
    return found


def _files(facts: Facts, probes: Probes) -> Result:
    limit = facts.host.open_files if facts.host.open_files is not None else probes.open_files
    if limit is None:
        return Result("not checked", "open files", "not seen")
    if limit < OPEN_FILES:
        return Result("warn", "open files", f"a process may open {limit}", "ulimit -n 65536")
    return Result("ok", "open files", f"a process may open {limit}")


def _token(spec: Spec | None, probes: Probes) -> list[Result]:
    gated = sorted({engine.repo for engine in spec.engines.values() if engine.gated}) if spec else []
    if not gated:
        return []
    names = ", ".join(gated)
    if probes.token is None:
        return [Result("not checked", "token", f"{names}: gated, and HF_TOKEN was not looked for")]
    if not probes.token:
        return [Result("fail", "token", f"{names}: gated, and HF_TOKEN is not set",
                       "accept the licence on the model's page, then write HF_TOKEN into .env")]  # fmt: skip
    return [Result("warn", "token", f"HF_TOKEN is set; whether it may read {names} is not checked",
                   "accept the licence on the model's page with the token's account")]  # fmt: skip
