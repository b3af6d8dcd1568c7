"""GPUs that a service asks for and cannot use: numbers inside the container, other makers, images without CUDA."""

from __future__ import annotations

from orchestrator.decide.composecheck.project import Project
from orchestrator.decide.composecheck.service import Service
from orchestrator.decide.composecheck.values import Seq
from orchestrator.decide.finding import Finding


def check(project: Project) -> list[Finding]:
    found = []
    for service in [*project.of("vllm"), *project.of("ollama")]:
        found += _numbers(service) + _overridden(service) + _makers(service)
    return found


def _numbers(service: Service) -> list[Finding]:
    """CUDA_VISIBLE_DEVICES counts inside the container, where the GPUs that it was given start at 0."""
    said = service.env.get("CUDA_VISIBLE_DEVICES")
    asked = service.gpus[0] if service.gpus else None
    if said is None or asked is None or asked.count is None or "$" in said.text:
        return []
    wanted = [one.strip() for one in said.text.split(",")]
    if not all(one.isdigit() for one in wanted) or all(int(one) < asked.count for one in wanted):
        return []
    plural = "GPU" if asked.count == 1 else "GPUs"
    return [Finding("error", service.name, f"CUDA_VISIBLE_DEVICES={said.text} names a GPU that the container does not "
                    f"have: it gets {asked.count} {plural}, which count from 0 there", "take CUDA_VISIBLE_DEVICES out: "
                    "device_ids chooses", line=said.line, code="cuda-visible")]  # fmt: skip


def _overridden(service: Service) -> list[Finding]:
    """Docker sets NVIDIA_VISIBLE_DEVICES itself from a reservation."""
    said = service.env.get("NVIDIA_VISIBLE_DEVICES")
    asked = next((one for one in service.gpus if one.form in ("devices", "gpus")), None)
    if said is None or asked is None or said.text in ("all", "") or "$" in said.text:
        return []
    if service.get("runtime") == "nvidia":
        return []
    given = asked.ids
    if given is not None and {one.strip() for one in said.text.split(",")} == set(given):
        return []
    return [Finding("warning", service.name, f"NVIDIA_VISIBLE_DEVICES={said.text} has no effect beside a reservation: "
                    "that one chooses the GPUs", "choose them with device_ids", line=said.line,
                    code="nvidia-visible")]  # fmt: skip


def _makers(service: Service) -> list[Finding]:
    image = f"{service.image}:{service.tag}"
    devices = service.get("devices")
    amd = isinstance(devices, Seq) and any("/dev/kfd" in str(one) for one in devices if isinstance(one, str))
    if "rocm" in image and any(one.form in ("devices", "gpus", "runtime", "cdi") for one in service.gpus):
        return [Finding("error", service.name, "is an image for AMD GPUs, and reserves NVIDIA ones", "take the image "
                        "without rocm, or pass /dev/kfd and /dev/dri", line=service.at("image"),
                        code="rocm-nvidia")]  # fmt: skip
    if amd and "rocm" not in image and service.kind == "vllm" and service.own:
        return [Finding("error", service.name, "is built for NVIDIA, and is given an AMD GPU", "vllm/vllm-openai-rocm",
                        line=service.at("image"), code="cuda-on-amd")]  # fmt: skip
    if service.kind == "vllm" and service.own and "cpu" in image and service.gpus:
        return [Finding("warning", service.name, "is the CPU build, and reserves a GPU that it cannot use",
                        "vllm/vllm-openai, or no reservation", line=service.gpus[0].line,
                        code="cpu-image-gpu")]  # fmt: skip
    return []
