"""Single questions to NVML, each with what its absence means. The binding comes from clients/gpu.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from orchestrator.facts import Holder

_NAME = 40          # characters of a process's name that are kept


@dataclass(slots=True)
class Nvml:
    """The binding, with calls that may fail, and what is to be said of the GPUs."""

    binding: Any
    notes: list[str] = field(default_factory=list)

    @property
    def failure(self) -> type[Exception]:
        """What a call raises."""
        found: type[Exception] = self.binding.NVMLError
        return found

    def get(self, call: str, *given: Any) -> Any:
        """Return what a call answers; raises NVMLError."""
        return getattr(self.binding, f"nvml{call}")(*given)

    def maybe(self, call: str, *given: Any) -> Any:
        """Return what a call answers, None where this driver, system or permission does not have it."""
        try:
            return self.get(call, *given)
        except (self.binding.NVMLError, self.binding.NVMLLibraryMismatchError, AttributeError, ValueError):
            return None


def own_memory(nvml: Nvml, handle: Any) -> tuple[int, int, int]:
    """Return the memory of a whole GPU, all 0 where it has none of its own; raises other NVMLErrors."""
    known = nvml.binding
    try:
        return memory(nvml, handle)
    except nvml.failure as error:
        if getattr(error, "value", None) not in (known.NVML_ERROR_NOT_SUPPORTED, known.NVML_ERROR_FUNCTION_NOT_FOUND):
            raise
    return 0, 0, 0


def memory(nvml: Nvml, handle: Any) -> tuple[int, int, int]:
    """Return total, free and reserved in bytes; raises NVMLError.

    Older drivers have no second version of the call: then the reserve counts as used, as nvidia-smi showed it.
    """
    seen = nvml.maybe("DeviceGetMemoryInfo", handle, nvml.binding.nvmlMemory_v2)
    if seen is None:
        seen = nvml.get("DeviceGetMemoryInfo", handle)
    total, free, reserved = int(seen.total), int(seen.free), int(getattr(seen, "reserved", 0))
    if not 0 <= reserved < total:
        reserved = 0
    return total - reserved, max(0, min(free, total - reserved)), reserved


def capability(nvml: Nvml, handle: Any) -> float:
    seen = nvml.maybe("DeviceGetCudaComputeCapability", handle)
    return seen[0] + seen[1] / 10 if seen else 0.0


def holders(nvml: Nvml, handle: Any, whole: Any = None) -> tuple[Holder, ...]:
    """Return who holds memory, largest first; of a MIG instance from the whole GPU where it does not tell itself."""
    seen = _processes(nvml, handle)
    if seen is None and whole is not None:
        ids = nvml.maybe("DeviceGetGpuInstanceId", handle), nvml.maybe("DeviceGetComputeInstanceId", handle)
        seen = [one for one in _processes(nvml, whole) or ()
                if (one.gpuInstanceId, one.computeInstanceId) == ids]  # fmt: skip
    held = {int(one.pid): _bytes(one.usedGpuMemory) for one in seen or ()}
    found = [Holder(pid, _process_name(nvml, pid), size) for pid, size in held.items()]
    return tuple(sorted(found, key=lambda one: (-(one.bytes or 0), one.pid)))


def _processes(nvml: Nvml, handle: Any) -> list[Any] | None:
    """Return processes that compute or draw; None where NVML does not tell either. Old drivers have only _v2."""
    answers = []
    for what in ("Graphics", "Compute"):
        seen = nvml.maybe(f"DeviceGet{what}RunningProcesses_v3", handle)
        answers.append(seen if seen is not None else nvml.maybe(f"DeviceGet{what}RunningProcesses_v2", handle))
    return None if answers == [None, None] else [one for answer in answers for one in answer or ()]


def _process_name(nvml: Nvml, pid: int) -> str:
    """Return the program's name alone: its arguments may hold secrets."""
    said = text(nvml.maybe("SystemGetProcessName", pid)).strip()
    return said.split(" ")[0].replace("\\", "/").rpartition("/")[2][:_NAME]


def _bytes(value: Any) -> int | None:
    return None if value is None or value >= 2**63 else int(value)


def cuda(nvml: Nvml) -> str:
    seen = nvml.maybe("SystemGetCudaDriverVersion_v2") or nvml.maybe("SystemGetCudaDriverVersion")
    return f"{seen // 1000}.{seen % 1000 // 10}" if seen else ""


def text(value: str | bytes | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""
