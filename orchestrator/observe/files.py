"""Small files of the kernel and of devices, as far as they can be read: what cannot be is as if it were not there."""

from __future__ import annotations

from pathlib import Path


def there(path: Path) -> bool:
    """Whether the path exists and may be looked at."""
    try:
        return path.exists()
    except OSError:
        return False


def text_of(path: Path) -> str:
    """Return what the file says, empty when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return ""
