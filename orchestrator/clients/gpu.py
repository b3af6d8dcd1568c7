"""NVML, or the reason why there is none as a value. The only importer of pynvml.

NVML differs by machine: WSL2, GeForce, vGPU, Jetson and containers each lack some calls. A call that is missing
costs the fact that it would have given, never the look.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.facts import Gpu, Holder

_NAME = 40          # characters of a process's name that are kept
_VGPU, _LENDS = 2, (3, 4)       # nvmlGpuVirtualizationMode_t: inside a VM with a vGPU; a host that lends GPUs to VMs


@dataclass(frozen=True, slots=True)
class GpuLook:
    """What NVML said: GPUs and driver version, or a problem in words (no GPU is a fact, not an error).

    `cuda`: the newest CUDA that the driver runs, such as 12.8. `notes`: GPUs that are left out or not as they seem.
    """

    gpus: tuple[Gpu, ...] = ()
    driver: str = ""
    problem: str = ""
    cuda: str = ""
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Nvml:
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


def look() -> GpuLook:
    """Ask NVML once. Never raises: a missing library or driver becomes `problem`."""
    try:
        import pynvml
    except ImportError as error:
        return GpuLook(problem=f"the NVML binding is missing: {error}")
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError, OSError) as error:
        return GpuLook(problem=_explain(str(error)))
    nvml = _Nvml(pynvml)
    try:
        count = int(nvml.get("DeviceGetCount"))
        gpus = tuple(gpu for number in range(count) for gpu in _at(nvml, number))
        driver = _text(nvml.maybe("SystemGetDriverVersion"))
        cuda = _cuda(nvml)
    except pynvml.NVMLError as error:
        return GpuLook(problem=f"NVML failed: {error}")
    finally:
        nvml.maybe("Shutdown")
    problem = "" if gpus else "; ".join(nvml.notes) or "NVML answers, but there is no GPU"
    return GpuLook(gpus, driver, problem, cuda, tuple(nvml.notes))


def _at(nvml: _Nvml, number: int) -> list[Gpu]:
    """Return the GPU, its MIG instances, or nothing with a note why: one that is lost does not hide the others."""
    try:
        handle = nvml.get("DeviceGetHandleByIndex", number)
        mode = nvml.maybe("DeviceGetMigMode", handle)
        return _instances(nvml, number, handle) if mode and mode[0] else [_whole(nvml, number, handle)]
    except nvml.failure as error:
        nvml.notes.append(f"GPU {number} is left out: NVML says {str(error).strip()!r}{_advice(nvml, error)}")
    return []


def _advice(nvml: _Nvml, error: Any) -> str:
    known = nvml.binding
    code = getattr(error, "value", None)
    if code in (known.NVML_ERROR_GPU_IS_LOST, known.NVML_ERROR_RESET_REQUIRED):
        return "; it fell off the bus or wants a reset: nvidia-smi --gpu-reset, or restart the machine"
    if code == known.NVML_ERROR_NO_PERMISSION:
        return "; ask as a user who may use /dev/nvidia*"
    return ""


def _whole(nvml: _Nvml, number: int, handle: Any) -> Gpu:
    name = _text(nvml.maybe("DeviceGetName", handle)) or "NVIDIA GPU"
    total, free, reserved = _own_memory(nvml, handle)
    screen = any(nvml.maybe(call, handle) for call in ("DeviceGetDisplayActive", "DeviceGetDisplayMode"))
    virtual = nvml.maybe("DeviceGetVirtualizationMode", handle)
    if virtual == _VGPU:
        nvml.notes.append(f"GPU {number} ({name}) is a vGPU: its memory is a share of the card, its speed is not ours")
    elif virtual in _LENDS:
        nvml.notes.append(f"GPU {number} ({name}) is lent to virtual machines: use it inside one of them")
    if not total:
        nvml.notes.append(f"GPU {number} ({name}): NVML tells no memory of its own; it shares the host's")
    holders = _holders(nvml, handle)
    return Gpu(
        index=str(number),
        uuid=_text(nvml.maybe("DeviceGetUUID", handle)) or f"GPU-{number}",
        name=name,
        total=total,
        free=free,
        compute_capability=_capability(nvml, handle),
        processes=len(holders),
        display=screen,
        reserved=reserved,
        unified=not total,
        holders=holders,
    )


def _instances(nvml: _Nvml, number: int, handle: Any) -> list[Gpu]:
    """Return the MIG instances: the whole GPU takes no work while MIG is on.

    Compute instances of one GPU instance share its memory, so that only the first of them is listed.
    """
    found: list[Gpu] = []
    owners: dict[int, str] = {}
    parent = _text(nvml.maybe("DeviceGetUUID", handle))
    for at in range(nvml.maybe("DeviceGetMaxMigDeviceCount", handle) or 8):
        try:
            mine = nvml.get("DeviceGetMigDeviceHandleByIndex", handle, at)
            one = _instance(nvml, f"{number}:{at}", mine, handle)
        except nvml.failure as error:
            if getattr(error, "value", None) != nvml.binding.NVML_ERROR_NOT_FOUND:
                nvml.notes.append(f"MIG instance {number}:{at} is left out: NVML says {str(error).strip()!r}")
            continue
        group = nvml.maybe("DeviceGetGpuInstanceId", mine)
        if group is not None and owners.setdefault(group, one.index) != one.index:
            nvml.notes.append(f"MIG instance {one.index} is left out: it shares its memory with {owners[group]}")
            continue
        found.append(replace(one, parent=parent))
    if not found:
        nvml.notes.append(f"GPU {number} is in MIG mode and has no instance: nvidia-smi mig -cgi 9 -C makes some, "
                          f"nvidia-smi -i {number} -mig 0 ends the mode")  # fmt: skip
    return found


def _instance(nvml: _Nvml, index: str, mine: Any, whole: Any) -> Gpu:
    try:
        total, free, reserved = _memory(nvml, mine)
    except nvml.failure:
        total = free = reserved = 0
    seen = nvml.maybe("DeviceGetAttributes_v2", mine)
    if not total and seen:      # some drivers tell an instance's memory to root alone
        total = free = int(seen.memorySizeMB) * 2**20
        nvml.notes.append(f"MIG instance {index}: NVML does not tell what is used of its memory; taken as free")
    name = _text(nvml.maybe("DeviceGetName", mine)) or _text(nvml.maybe("DeviceGetName", whole))
    base, _, profile = name.partition(" MIG ")
    profile = profile.strip() or (_profile(seen) if seen else "")
    holders = _holders(nvml, mine, whole)
    return Gpu(
        index=index,
        uuid=_text(nvml.get("DeviceGetUUID", mine)),
        name=f"{base} MIG {profile}".strip(),
        total=total,
        free=free,
        compute_capability=_capability(nvml, whole),
        processes=len(holders),
        mig=True,
        profile=profile,
        reserved=reserved,
        holders=holders,
    )


def _profile(seen: Any) -> str:
    """Return NVIDIA's name of an instance: 3g.40gb, or 1c.3g.40gb for a part of its compute slices."""
    slices, compute = int(seen.gpuInstanceSliceCount), int(seen.computeInstanceSliceCount)
    part = f"{compute}c." if compute and compute < slices else ""
    return f"{part}{slices}g.{-(-int(seen.memorySizeMB) // 1024)}gb"


def _own_memory(nvml: _Nvml, handle: Any) -> tuple[int, int, int]:
    """Return the memory of a whole GPU, all 0 where it has none of its own; raises other NVMLErrors."""
    known = nvml.binding
    try:
        return _memory(nvml, handle)
    except nvml.failure as error:
        if getattr(error, "value", None) not in (known.NVML_ERROR_NOT_SUPPORTED, known.NVML_ERROR_FUNCTION_NOT_FOUND):
            raise
    return 0, 0, 0


def _memory(nvml: _Nvml, handle: Any) -> tuple[int, int, int]:
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


def _capability(nvml: _Nvml, handle: Any) -> float:
    seen = nvml.maybe("DeviceGetCudaComputeCapability", handle)
    return seen[0] + seen[1] / 10 if seen else 0.0


def _holders(nvml: _Nvml, handle: Any, whole: Any = None) -> tuple[Holder, ...]:
    """Return who holds memory, largest first; of a MIG instance from the whole GPU where it does not tell itself."""
    seen = _processes(nvml, handle)
    if seen is None and whole is not None:
        ids = nvml.maybe("DeviceGetGpuInstanceId", handle), nvml.maybe("DeviceGetComputeInstanceId", handle)
        seen = [one for one in _processes(nvml, whole) or ()
                if (one.gpuInstanceId, one.computeInstanceId) == ids]  # fmt: skip
    held = {int(one.pid): _bytes(one.usedGpuMemory) for one in seen or ()}
    found = [Holder(pid, _process_name(nvml, pid), size) for pid, size in held.items()]
    return tuple(sorted(found, key=lambda one: (-(one.bytes or 0), one.pid)))


def _processes(nvml: _Nvml, handle: Any) -> list[Any] | None:
    """Return processes that compute or draw; None where NVML does not tell either. Old drivers have only _v2."""
    answers = []
    for what in ("Graphics", "Compute"):
        seen = nvml.maybe(f"DeviceGet{what}RunningProcesses_v3", handle)
        answers.append(seen if seen is not None else nvml.maybe(f"DeviceGet{what}RunningProcesses_v2", handle))
    return None if answers == [None, None] else [one for answer in answers for one in answer or ()]


def _process_name(nvml: _Nvml, pid: int) -> str:
    """Return the program's name alone: its arguments may hold secrets."""
    said = _text(nvml.maybe("SystemGetProcessName", pid)).strip()
    return said.split(" ")[0].replace("\\", "/").rpartition("/")[2][:_NAME]


def _bytes(value: Any) -> int | None:
    return None if value is None or value >= 2**63 else int(value)


def _cuda(nvml: _Nvml) -> str:
    seen = nvml.maybe("SystemGetCudaDriverVersion_v2") or nvml.maybe("SystemGetCudaDriverVersion")
    return f"{seen // 1000}.{seen % 1000 // 10}" if seen else ""


def _text(value: str | bytes | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""


def _explain(text: str) -> str:
    if "Shared Library Not Found" in text or "Library" in text:
        return "no NVIDIA driver on this machine (libnvidia-ml.so.1 is missing)"
    return f"the NVIDIA driver does not answer: {text}"
