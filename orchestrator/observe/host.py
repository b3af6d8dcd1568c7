"""Looks at the machine itself: system, memory, disk, limits, and GPUs that NVML cannot see. Changes nothing."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

from orchestrator.facts import Gpu, Host

_AMD, _NVIDIA = "0x1002", "0x10de"      # PCI vendor ids


def look(paths: Sequence[str] = (), root: str = "/") -> Host:
    """Freeze the machine; what cannot be seen stays None. Never raises.

    `paths`: where to look for free disk space; those that do not exist are left out.
    `root`: where /proc and /dev are found.
    """
    base = Path(root)
    memory = _text(base / "proc/meminfo")
    free = {path: size for path in paths if (size := _bytes(path, free=True)) is not None}
    return Host(
        system=platform.system(),
        machine=platform.machine(),
        wsl="microsoft" in _text(base / "proc/version").lower(),
        ram=_kib(memory, "MemTotal"),
        ram_free=_kib(memory, "MemAvailable"),
        shm=_bytes(str(base / "dev/shm"), free=False),
        disk_free=free,
        cpus=os.cpu_count(),
        open_files=_open_files(),
    )


def amd_gpus(root: str = "/") -> tuple[Gpu, ...]:
    """Return the AMD GPUs that the kernel names, from sysfs; their indexes (amd0) are none that a spec can use.

    None where an NVIDIA card is there as well: then its driver is what to look at. An integrated one without its
    memory told counts only where /dev/kfd, the door for compute, is there.
    """
    base = Path(root)
    compute = _exists(base / "dev/kfd")
    cards: list[Path] = []
    with contextlib.suppress(OSError):
        cards = sorted(base.glob("sys/class/drm/card*/device"), key=lambda one: _number(one.parent.name))
    vendors = {card: _text(card / "vendor").strip().lower() for card in cards}
    if _NVIDIA in vendors.values():
        return ()
    found: list[Gpu] = []
    for card in cards:
        total = _size(card / "mem_info_vram_total")
        # card0-DP-1 is a connector of card0.
        if "-" in card.parent.name or vendors[card] != _AMD or not (total or compute):
            continue
        free = max(total - _size(card / "mem_info_vram_used"), 0)
        name = _text(card / "product_name").strip() or f"AMD GPU {_text(card / 'device').strip()}".strip()
        uuid = _text(card / "unique_id").strip()
        found.append(Gpu(f"amd{len(found)}", uuid, name, total, free, compute_capability=0.0, vendor="amd"))
    if compute and not found:
        return (Gpu("amd0", "", "AMD GPU", 0, 0, compute_capability=0.0, vendor="amd"),)
    return tuple(found)


def _number(name: str) -> int:
    digits = re.search(r"\d+", name)
    return int(digits[0]) if digits else 0


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return ""


def _size(path: Path) -> int:
    text = _text(path).strip()
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
