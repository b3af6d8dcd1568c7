"""NVML, or the reason why there is none as a value. The only importer of pynvml.

NVML differs by machine: WSL2, GeForce, vGPU, Jetson and containers each lack some calls. A call that is missing
costs the fact that it would have given, never the look.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.clients.nvml import Nvml, capability, cuda, holders, memory, own_memory, text
from orchestrator.facts import Gpu

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
    nvml = Nvml(pynvml)
    try:
        count = int(nvml.get("DeviceGetCount"))
        gpus = tuple(gpu for number in range(count) for gpu in _at(nvml, number))
        driver = text(nvml.maybe("SystemGetDriverVersion"))
        newest = cuda(nvml)
    except pynvml.NVMLError as error:
        return GpuLook(problem=f"NVML failed: {error}")
    finally:
        nvml.maybe("Shutdown")
    problem = "" if gpus else "; ".join(nvml.notes) or "NVML answers, but there is no GPU"
    return GpuLook(gpus, driver, problem, newest, tuple(nvml.notes))


def _at(nvml: Nvml, number: int) -> list[Gpu]:
    """Return the GPU, its MIG instances, or nothing with a note why: one that is lost does not hide the others."""
    try:
        handle = nvml.get("DeviceGetHandleByIndex", number)
        mode = nvml.maybe("DeviceGetMigMode", handle)
        return _instances(nvml, number, handle) if mode and mode[0] else [_whole(nvml, number, handle)]
    except (nvml.failure, ValueError) as error:     # a name that is no text is a ValueError
        nvml.notes.append(f"GPU {number} is left out: NVML says {str(error).strip()!r}{_advice(nvml, error)}")
    return []


def _advice(nvml: Nvml, error: Any) -> str:
    known = nvml.binding
    code = getattr(error, "value", None)
    if code in (known.NVML_ERROR_GPU_IS_LOST, known.NVML_ERROR_RESET_REQUIRED):
        return "; it fell off the bus or wants a reset: nvidia-smi --gpu-reset, or restart the machine"
    if code == known.NVML_ERROR_NO_PERMISSION:
        return "; ask as a user who may use /dev/nvidia*"
    return ""


def _whole(nvml: Nvml, number: int, handle: Any) -> Gpu:
    name = text(nvml.maybe("DeviceGetName", handle)) or "NVIDIA GPU"
    total, free, reserved = own_memory(nvml, handle)
    screen = any(nvml.maybe(call, handle) for call in ("DeviceGetDisplayActive", "DeviceGetDisplayMode"))
    virtual = nvml.maybe("DeviceGetVirtualizationMode", handle)
    if virtual == _VGPU:
        nvml.notes.append(f"GPU {number} ({name}) is a vGPU: its memory is a share of the card, its speed is not ours")
    elif virtual in _LENDS:
        nvml.notes.append(f"GPU {number} ({name}) is lent to virtual machines: use it inside one of them")
    if re.search(r"\bG[HB]\d00\b", name):     # NVML's own documentation of nvmlDeviceGetMemoryInfo
        nvml.notes.append(f"GPU {number} ({name}): its memory is a node of the host, and page cache counts as used")
    if not total:
        nvml.notes.append(f"GPU {number} ({name}): NVML tells no memory of its own; it shares the host's")
    held = holders(nvml, handle)
    return Gpu(
        index=str(number),
        uuid=text(nvml.maybe("DeviceGetUUID", handle)) or f"GPU-{number}",
        name=name,
        total=total,
        free=free,
        compute_capability=capability(nvml, handle),
        processes=len(held),
        display=screen,
        reserved=reserved,
        unified=not total,
        holders=held,
    )


def _instances(nvml: Nvml, number: int, handle: Any) -> list[Gpu]:
    """Return the MIG instances: the whole GPU takes no work while MIG is on.

    Compute instances of one GPU instance share its memory, so that only the first of them is listed.
    """
    found: list[Gpu] = []
    owners: dict[int, str] = {}
    parent = text(nvml.maybe("DeviceGetUUID", handle))
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


def _instance(nvml: Nvml, index: str, mine: Any, whole: Any) -> Gpu:
    try:
        total, free, reserved = memory(nvml, mine)
    except nvml.failure:
        total = free = reserved = 0
    seen = nvml.maybe("DeviceGetAttributes_v2", mine)
    if not total and seen:      # some drivers tell an instance's memory to root alone
        total = free = int(seen.memorySizeMB) * 2**20
        nvml.notes.append(f"MIG instance {index}: NVML does not tell what is used of its memory; taken as free")
    if not total:
        memory(nvml, mine)      # says why
    name = text(nvml.maybe("DeviceGetName", mine)) or text(nvml.maybe("DeviceGetName", whole))
    base, _, profile = name.partition(" MIG ")
    profile = profile.strip() or (_profile(seen) if seen else "")
    held = holders(nvml, mine, whole)
    return Gpu(
        index=index,
        uuid=text(nvml.get("DeviceGetUUID", mine)),
        name=f"{base} MIG {profile}".strip(),
        total=total,
        free=free,
        compute_capability=capability(nvml, whole),
        processes=len(held),
        mig=True,
        profile=profile,
        reserved=reserved,
        holders=held,
    )


def _profile(seen: Any) -> str:
    """Return NVIDIA's name of an instance: 3g.40gb, or 1c.3g.40gb for a part of its compute slices."""
    slices, compute = int(seen.gpuInstanceSliceCount), int(seen.computeInstanceSliceCount)
    part = f"{compute}c." if compute and compute < slices else ""
    return f"{part}{slices}g.{-(-int(seen.memorySizeMB) // 1024)}gb"


def _explain(said: str) -> str:
    if "Shared Library Not Found" in said or "Library" in said:
        return "no NVIDIA driver on this machine (libnvidia-ml.so.1 is missing)"
    if "mismatch" in said:
        return f"the NVIDIA driver does not answer: {said} Its kernel module is still the old one: restart the machine"
    return f"the NVIDIA driver does not answer: {said}"
