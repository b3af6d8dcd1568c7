"""Looks at the machine itself: system, memory, disk, limits, and GPUs that NVML cannot see. Changes nothing."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

from orchestrator.facts import Gpu, Host
from orchestrator.observe import cgroup
from orchestrator.observe.files import text_of, there

_AMD, _NVIDIA = "0x1002", "0x10de"      # PCI vendor ids


def look(paths: Sequence[str] = (), root: str = "/") -> Host:
    """Freeze the machine; what cannot be seen stays None. Never raises.

    Memory is the smaller of the machine's and what the control group allows, as in a container with a limit.
    `paths`: where to look for free disk space; those that do not exist are left out.
    `root`: where /proc and /dev are found.
    """
    base = Path(root)
    memory = text_of(base / "proc/meminfo")
    ram, ram_free = _kib(memory, "MemTotal"), _kib(memory, "MemAvailable")
    ram = ram or (_physical() if root == "/" else None)
    group = cgroup.limit(root)
    limited = group[0] if group and (ram is None or group[0] < ram) else None
    free = {path: size for path in paths if (size := _bytes(path, free=True)) is not None}
    return Host(
        system=platform.system(),
        machine=platform.machine(),
        wsl=_wsl(base),
        ram=limited or ram,
        ram_free=min((one for one in (ram_free, group[1] if group else None) if one is not None), default=None),
        ram_limit=limited,
        shm=_bytes(str(base / "dev/shm"), free=False),
        disk_free=free,
        cpus=os.cpu_count(),
        open_files=_open_files(),
    )


def _wsl(base: Path) -> bool:
    """Whether this is WSL: by the kernel's release, or with a kernel of one's own by what WSL mounts."""
    said = text_of(base / "proc/version").split()
    release = (said[2] if len(said) > 2 else "") + text_of(base / "proc/sys/kernel/osrelease")
    if re.search(r"microsoft|wsl", release, re.IGNORECASE):
        return True
    marks = ("proc/sys/fs/binfmt_misc/WSLInterop", "proc/sys/fs/binfmt_misc/WSLInterop-late", "run/WSL")
    return any(there(base / one) for one in marks) or (there(base / "dev/dxg") and there(base / "usr/lib/wsl"))


def _physical() -> int | None:
    """Return the RAM of a system without /proc, such as macOS."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    return found if found > 0 else None


def nvidia_hint(root: str = "/") -> str:
    """Say what the machine itself shows of an NVIDIA GPU that NVML does not list; empty when it shows none."""
    base = Path(root)
    board = text_of(base / "proc/device-tree/model").strip("\0 \n")
    if there(base / "etc/nv_tegra_release") or re.search(r"jetson|tegra", board, re.IGNORECASE):
        return f"this is {board or 'a Jetson'}, whose GPU this system's NVML does not list"
    if there(base / "proc/driver/nvidia/version"):
        return "the driver is loaded, but this process may not reach it: in a container, start it with --gpus all"
    cards: list[Path] = []
    with contextlib.suppress(OSError):
        cards = [one for one in sorted(base.glob("sys/bus/pci/devices/*"))
                 if text_of(one / "vendor").strip().lower() == _NVIDIA
                 and text_of(one / "class").strip().lower().startswith("0x03")]  # fmt: skip
    if not cards:
        return ""
    return f"an NVIDIA card is at PCI {cards[0].name}, but its driver is not loaded: install it, or restart"


def amd_gpus(root: str = "/") -> tuple[Gpu, ...]:
    """Return the AMD GPUs that the kernel names, from sysfs; their indexes (amd0) are none that a spec can use.

    None where an NVIDIA card is there as well: then its driver is what to look at. An integrated one without its
    memory told counts only where /dev/kfd, the door for compute, is there.
    """
    base = Path(root)
    compute = there(base / "dev/kfd")
    cards: list[Path] = []
    with contextlib.suppress(OSError):
        cards = sorted(base.glob("sys/class/drm/card*/device"), key=lambda one: _number(one.parent.name))
    vendors = {card: text_of(card / "vendor").strip().lower() for card in cards}
    if _NVIDIA in vendors.values():
        return ()
    found: list[Gpu] = []
    for card in cards:
        total = _size(card / "mem_info_vram_total")
        # card0-DP-1 is a connector of card0.
        if "-" in card.parent.name or vendors[card] != _AMD or not (total or compute):
            continue
        free = max(total - _size(card / "mem_info_vram_used"), 0)
        name = text_of(card / "product_name").strip() or f"AMD GPU {text_of(card / 'device').strip()}".strip()
        uuid = text_of(card / "unique_id").strip()
        found.append(Gpu(f"amd{len(found)}", uuid, name, total, free, compute_capability=0.0, vendor="amd"))
    if compute and not found:
        return (Gpu("amd0", "", "AMD GPU", 0, 0, compute_capability=0.0, vendor="amd"),)
    return tuple(found)


def _number(name: str) -> int:
    digits = re.search(r"\d+", name)
    return int(digits[0]) if digits else 0


def _size(path: Path) -> int:
    text = text_of(path).strip()
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else 0


def _kib(text: str, key: str) -> int | None:
    found = re.search(rf"^{key}:\s*([0-9]{{1,15}})\s*kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _bytes(path: str, *, free: bool) -> int | None:
    try:
        seen = os.statvfs(path)
    except (OSError, ValueError, AttributeError):   # not there, a NUL in the name, no statvfs on this system
        return None
    return seen.f_frsize * (seen.f_bavail if free else seen.f_blocks)


def _open_files() -> int | None:
    try:
        import resource
    except ImportError:     # Windows
        return None
    try:
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    except (OSError, ValueError):
        return None
    return None if soft == resource.RLIM_INFINITY else soft
