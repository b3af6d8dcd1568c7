"""NVML, or the reason why there is none as a value. The only importer of pynvml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.facts import Gpu


@dataclass(frozen=True, slots=True)
class GpuLook:
    """What NVML said: GPUs and driver version, or a problem in words (no GPU is a fact, not an error)."""

    gpus: tuple[Gpu, ...] = ()
    driver: str = ""
    problem: str = ""


def look() -> GpuLook:
    """Ask NVML once. Never raises: a missing library or driver becomes `problem`."""
    try:
        import pynvml
    except ImportError as error:
        return GpuLook(problem=f"the NVML binding is missing: {error}")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return GpuLook(problem=_explain(str(error)))
    try:
        gpus = tuple(_gpu(pynvml, number) for number in range(pynvml.nvmlDeviceGetCount()))
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError as error:
        return GpuLook(problem=f"NVML failed: {error}")
    finally:
        pynvml.nvmlShutdown()
    return GpuLook(gpus, driver, "" if gpus else "NVML answers, but there is no GPU")


def _gpu(nvml: Any, number: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(number)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    try:
        processes = len(nvml.nvmlDeviceGetComputeRunningProcesses(handle))
    except nvml.NVMLError:  # not permitted inside some containers
        processes = 0
    return Gpu(
        index=str(number),
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        name=_text(nvml.nvmlDeviceGetName(handle)),
        total=int(memory.total),
        free=int(memory.free),
        compute_capability=major + minor / 10,
        processes=processes,
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _explain(text: str) -> str:
    if "Shared Library Not Found" in text or "Library" in text:
        return "no NVIDIA driver on this machine (libnvidia-ml.so.1 is missing)"
    return f"the NVIDIA driver does not answer: {text}"
