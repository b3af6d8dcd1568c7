"""GPUs that are known by name: memory, compute capability, what a MIG profile has. Pure data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

DATA = Path(__file__).parent.parent / "data" / "gpus.yaml"
_FILLER = re.compile(
    r"nvidia|geforce|tesla|(?<![a-z])(?:pcie|sxm\d?|hbm\d?e?|generation|edition|server|workstation|gpu|vram|memory|max-?q)"
    r"(?![a-z])", re.IGNORECASE,
)  # fmt: skip
_GEFORCE = re.compile(r"RTX (?=[2-5]0\d0)")


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU that is known by name; `sizes` in MiB as nvidia-smi shows them."""

    name: str
    sizes: tuple[int, ...]
    capability: float
    mig: bool = False
    unified: bool = False
    usual: int = 0

    def labelled(self, size: int) -> str:
        """Return the name, with the size where the card comes in several."""
        return self.name if len(self.sizes) == 1 else f"{self.name}-{round(size / 1024)}GB"


@cache
def known() -> dict[str, Card]:
    """Return the GPUs known by name: squeezed name -> card."""
    found: dict[str, Card] = {}
    for name, one in _data()["gpus"].items():
        sizes = one["memory_mib"] if isinstance(one["memory_mib"], list) else [one["memory_mib"]]
        card = Card(
            name, tuple(sizes), float(one["compute_capability"]), mig=bool(one.get("mig")),
            unified=bool(one.get("unified")), usual=int(one.get("usual", 0)),
        )  # fmt: skip
        for spelled in (name, *one.get("also", ())):
            found |= {squeeze(spelled): card, squeeze(_GEFORCE.sub("", spelled)): card}
    return found


@cache
def _data() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(DATA.read_text(encoding="utf-8"))
    return found


def profile_mib(profile: str) -> int:
    """Return the memory of an instance by its profile's name, such as 3g.40gb."""
    size = int(re.sub(r".*g\.(\d+)gb", r"\1", profile))
    return int(_data()["mig_mib"].get(size) or size * 1024 * _data()["mig_share"])


def squeeze(name: str) -> str:
    """Return a name without what changes from one writer to the next."""
    return re.sub(r"[^a-z0-9]", "", _FILLER.sub(" ", name.lower()))
