"""A GPU in words, as the flag --gpu takes it: `24GiB,cc8.9`, `2x24GiB,cc8.9,used 2GiB`, `RTX 4090`."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from orchestrator.errors import UsageError
from orchestrator.facts import Gpu

DATA = Path(__file__).parent.parent / "data" / "gpus.yaml"
FORMS = '"24GiB,cc8.9", "2x24GiB,cc8.9", "24GiB,cc8.9,used 2GiB" (or free 22GiB, mig, display), or a name: "RTX 4090"'
_MIB = {"mib": 1, "mb": 1, "m": 1, "gib": 1024, "gb": 1024, "g": 1024}
_SIZE = re.compile(r"(?:(used|free)[\s=:]*)?(\d{1,9}(?:\.\d{1,6})?)\s*([mg]i?b?)(?:\s*(used|free))?", re.IGNORECASE)
_COUNT = re.compile(r"\s*(\d{1,3})\s*[xX\u00d7*]\s*(?=\S)")
_CAPABILITY = re.compile(r"(?:cc|sm_?|compute)\s*(\d{1,2})\.(\d)", re.IGNORECASE)
_MOST = 64


@cache
def known() -> dict[str, tuple[str, int, float]]:
    """Return the GPUs known by name: squeezed name -> name, MiB, compute capability."""
    found: dict[str, tuple[str, int, float]] = {}
    for name, one in yaml.safe_load(DATA.read_text(encoding="utf-8"))["gpus"].items():
        for spelled in (name, *one.get("also", ())):
            found[_squeeze(spelled)] = (name, int(one["memory_mib"]), float(one["compute_capability"]))
    return found


def parse_gpus(text: str, index: int = 0) -> tuple[Gpu, ...]:
    """Return the GPUs that one flag names, numbered from `index`; raises UsageError with the accepted forms."""
    counted = _COUNT.match(text)
    count = int(counted[1]) if counted else 1
    if not 1 <= count <= _MOST:
        raise UsageError(f"--gpu {text!r}: the count should be 1 to {_MOST}", hint=f"such as: {FORMS}")
    rest = text[counted.end():] if counted else text
    return tuple(_gpu(text, rest, index + at) for at in range(count))


def parse_gpu(text: str, index: int = 0) -> Gpu:
    """Return the one GPU that the flag names; raises UsageError with the accepted forms."""
    found = parse_gpus(text, index)
    if len(found) != 1:
        raise UsageError(f"--gpu {text!r} names {len(found)} GPUs", hint="one is meant here")
    return found[0]


def _gpu(whole: str, text: str, index: int) -> Gpu:
    said: dict[str, Any] = {}
    parts = [one.strip() for one in text.split(",")]
    bad = [f"{part!r} is not understood" if part else "a part is empty" for part in parts if not _read(part, said)]
    total, capability = said.get("total"), said.get("cc")
    if not total:
        bad.append("the memory is missing")
    if capability is None:
        bad.append("the compute capability is missing, such as cc8.9")
    if "used" in said and "free" in said:
        bad.append("used and free are both given")
    free = said.get("free", (total or 0) - said.get("used", 0))
    if total and not 0 <= free <= total:
        bad.append("more is used or free than there is")
    if bad or total is None or capability is None:
        raise UsageError(f"--gpu {whole!r}: " + "; ".join(dict.fromkeys(bad)), hint=f"such as: {FORMS}")
    return Gpu(
        index=str(index), uuid=f"stated-{index}", name=said.get("name", "stated GPU"), total=total, free=free,
        compute_capability=capability, mig="mig" in said, display="display" in said,
    )  # fmt: skip


def _read(part: str, said: dict[str, Any]) -> bool:
    """Note what one part says; False when it says nothing known, or something a second time."""
    sized, capable = _SIZE.fullmatch(part), _CAPABILITY.fullmatch(part)
    named = known().get(_squeeze(part))
    if named:
        if "name" in said:
            return False
        said["name"] = named[0]
        said.setdefault("total", named[1] * 2**20)
        said.setdefault("cc", named[2])
    elif sized:
        key = (sized[1] or sized[4] or "total").lower()
        if key in said and not (key == "total" and "name" in said):
            return False
        said[key] = int(float(sized[2]) * _MIB[sized[3].lower()] * 2**20)
    elif capable:
        said["cc"] = int(capable[1]) + int(capable[2]) / 10
    elif part.lower() in ("mig", "display"):
        said[part.lower()] = True
    else:
        return False
    return True


def _squeeze(name: str) -> str:
    short = re.sub(r"[^a-z0-9]", "", name.lower())
    return short.removeprefix("nvidia").removeprefix("geforce").removeprefix("tesla")
