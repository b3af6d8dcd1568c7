"""GPUs, their driver against the images' CUDA, their compute capability against the engines' formats."""

from __future__ import annotations

import re

from orchestrator.decide import vram
from orchestrator.decide.catalog import load
from orchestrator.decide.preflight.engine import major
from orchestrator.decide.preflight.result import Result
from orchestrator.facts import Facts, Gpu
from orchestrator.spec import Spec
from orchestrator.spec_engine import Engine

# Newest CUDA that a driver branch runs (NVIDIA's release notes).
_DRIVERS = ((580, "13.0"), (575, "12.9"), (570, "12.8"), (565, "12.7"), (560, "12.6"), (555, "12.5"), (550, "12.4"),
            (545, "12.3"), (535, "12.2"), (530, "12.1"), (525, "12.0"), (515, "11.7"), (470, "11.4"))  # fmt: skip


def gpus(facts: Facts) -> list[Result]:
    if not any(one.vendor.lower() in ("nvidia", "") for one in facts.gpus):
        seen = ", ".join(f"{one.name} ({one.vendor}), which this tool cannot use" for one in facts.gpus)
        why = seen or facts.gpu_problem or "none was seen"
        # Not certain: this command may run where NVML is not, in a container or beside a remote Docker.
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
    if "vllm" not in image or re.search(r"rocm|cpu|xpu|tpu|hpu", image):
        return ""
    if tag in ("", "latest", "nightly"):
        return "13.0"
    if not release:
        return ""
    return "13.0" if (int(release[1]), int(release[2])) >= (0, 20) else "12.8"


def driver_cuda(facts: Facts) -> str:
    """Return the newest CUDA that the driver runs: as it says itself, else by its branch; empty: unknown."""
    branch = major(facts.driver)
    return facts.cuda or next((cuda for least, cuda in _DRIVERS if branch is not None and branch >= least), "")


def cuda(facts: Facts, spec: Spec | None) -> list[Result]:
    """Whether the driver runs what each image is built for.

    Data-centre cards may get by with NVIDIA's compatibility libraries, so an old driver is not certain to fail.
    """
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
            text = f"{facts.driver or 'it'} runs CUDA {has} at most; {image} needs {needs}"
            found.append(Result("fail", "driver", text, _driver_fix(needs, has)))
    return found


def _driver_fix(needs: str, has: str) -> str:
    if needs == "13.0" and _pair(has) >= (12, 9):
        return f"use the image with -cu129, or update the driver for CUDA {needs}"
    return f"update the driver to one for CUDA {needs} or newer"


def _pair(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def capability(facts: Facts, spec: Spec | None) -> list[Result]:
    found = []
    for name, engine in (spec.engines if spec else {}).items():
        used = [gpu for wanted in engine.gpus for gpu in facts.gpus if wanted in (gpu.index, gpu.uuid)]
        if len(used) < len(engine.gpus):
            there = ", ".join(gpu.index for gpu in facts.gpus) or "none"
            found.append(Result("fail", f"engine {name}", f"wants GPU {', '.join(engine.gpus)}; there is {there}",
                                f"correct engines.{name}.gpus", blocks=bool(facts.gpus)))  # fmt: skip
        found += [_runs(name, engine, gpu) for gpu in used]
    return found


def scheme_of(engine: Engine) -> str:
    known = load().by_repo(engine.repo)
    return engine.quantization or (known[1] if known else engine.repo.rpartition("/")[2])


def _runs(name: str, engine: Engine, gpu: Gpu) -> Result:
    family = vram.family(scheme_of(engine))
    needs, has = vram.minimum_capability(scheme_of(engine)), gpu.compute_capability
    if has <= 0:
        return Result("not checked", f"engine {name}", f"the compute capability of GPU {gpu.index} is not known")
    if has >= needs:
        return Result("ok", f"engine {name}", f"{family} runs on GPU {gpu.index} (compute capability {has})")
    fix = "choose a repository in another format, such as AWQ" if has >= 7.5 else \
        "stay on Ollama, which runs on older GPUs"  # fmt: skip
    return Result("fail", f"engine {name}", f"{family} needs compute capability {needs}; GPU {gpu.index} has {has}",
                  fix, blocks=True)  # fmt: skip
