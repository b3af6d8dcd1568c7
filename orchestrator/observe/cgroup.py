"""How much memory this process's control group leaves, versions 1 and 2. Changes nothing, never raises.

Inside a container /proc/meminfo shows the whole host; the limit stands in the control group alone.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from orchestrator.observe.files import text_of, there

_ENDLESS = 2**60        # version 1 writes "no limit" as the largest whole number of pages
_MOUNTS = ("sys/fs/cgroup", "sys/fs/cgroup/unified", "sys/fs/cgroup/memory")
_FILES = (      # limit, use, and what of the use is page cache that the kernel gives back
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def limit(root: str = "/") -> tuple[int, int] | None:
    """Return the smallest limit and the smallest rest of it in bytes; None without a limit.

    The rest counts inactive page cache as free, as MemAvailable does. Looks at the group that is mounted, which in
    a container is its own, and in a container that sees the host's groups at the path of this process and above it.
    """
    base = Path(root)
    paths = {PurePosixPath("/")}
    if _contained(base):
        for line in text_of(base / "proc/self/cgroup").splitlines():
            number, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            if (number == "0" or "memory" in controllers.split(",")) and path.startswith("/") and ".." not in path:
                paths |= {PurePosixPath(path), *PurePosixPath(path).parents}
    found = [one for mount in _MOUNTS for path in paths if (one := _group(base / mount / str(path).lstrip("/")))]
    return (min(most for most, _ in found), min(rest for _, rest in found)) if found else None


def _contained(base: Path) -> bool:
    return any(there(base / one) for one in (".dockerenv", "run/.containerenv", "run/systemd/container"))


def _group(folder: Path) -> tuple[int, int] | None:
    for name, used, cache in _FILES:
        most = _number(text_of(folder / name))
        if most is None or most >= _ENDLESS:
            continue
        held = _number(text_of(folder / used)) or 0
        stat = re.search(rf"^{cache} ([0-9]{{1,18}})$", text_of(folder / "memory.stat"), re.MULTILINE)
        return most, max(0, most - max(0, held - (int(stat[1]) if stat else 0)))
    return None


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if re.fullmatch(r"[0-9]{1,20}", text) else None
