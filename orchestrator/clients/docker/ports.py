"""Who on this host listens on a TCP port: /proc says it (the process is visible to root only)."""

from __future__ import annotations

from pathlib import Path

_LISTEN = "0A"


def listening_process(port: int, proc: Path = Path("/proc")) -> str:
    """'name (pid N)' of the process that listens on the port; empty when there is none or it is not visible."""
    sockets = {f"socket:[{inode}]" for inode in _inodes(port, proc)}
    if not sockets:
        return ""
    for directory in proc.glob("[0-9]*"):
        try:
            if any(str(link.readlink()) in sockets for link in (directory / "fd").iterdir()):
                return f"{(directory / 'comm').read_text().strip()} (pid {directory.name})"
        except OSError:  # not ours to look at, or already gone
            continue
    return "a process of another user"


def _inodes(port: int, proc: Path) -> set[str]:
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found
