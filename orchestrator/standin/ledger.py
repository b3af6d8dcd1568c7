"""Virtual GPUs: how much memory there is and who holds it, in one file that all stand-ins share.

An allocation lives as long as its owner's heartbeat; a container that was killed gives its memory back.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BEAT_S = 1.0
EXPIRY_S = 3.0
RETURN_S = 1.0  # a driver hands memory back this long after a process let go of it
UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
State = dict[str, Any]


@dataclass(frozen=True)
class Gpu:
    """One device as it is now; `total` and `used` in bytes."""

    index: str
    uuid: str
    name: str
    total: int
    used: int

    @property
    def free(self) -> int:
        return max(0, self.total - self.used)


def parse_size(text: str) -> int:
    """Return bytes for `24GiB`, `512MiB` or `1000`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip())
    if not found:
        raise ValueError(f"not a size: {text!r}")
    return int(float(found[1]) * UNITS[found[2]])


def parse_gpus(text: str) -> State:
    """Return the devices that `0:24GiB,1:40GiB=NVIDIA A100` describes."""
    gpus: State = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        index, _, rest = part.partition(":")
        size, _, name = rest.partition("=")
        gpus[index] = {
            "uuid": f"GPU-{uuid.uuid5(uuid.NAMESPACE_OID, index)}",
            "name": name or "NVIDIA Virtual GPU",
            "total": parse_size(size),
        }
    return gpus


def visible(indices: list[str], env: dict[str, str]) -> list[str]:
    """Return the devices that a container sees, by the variables that the NVIDIA runtime and CUDA read."""
    if env.get("CUDA_VISIBLE_DEVICES") in {"-1", "", "NoDevFiles"} and "CUDA_VISIBLE_DEVICES" in env:
        return []
    chosen = env.get("NVIDIA_VISIBLE_DEVICES", "all")
    if chosen in {"void", "none", ""}:
        return []
    wanted = indices if chosen == "all" else [c.strip() for c in chosen.split(",")]
    return [i for i in indices if i in wanted]


class Ledger:
    """The shared file, and this process's allocations in it."""

    def __init__(self, folder: Path, owner: str, *, clock: Callable[[], float] = time.time) -> None:
        self.owner = owner
        self._folder = folder
        self._clock = clock
        self._stop = threading.Event()
        self._beating = False

    @classmethod
    def from_env(cls, owner: str) -> Ledger | None:
        """Return the ledger that STANDIN_LEDGER names, or None: then there is no GPU."""
        folder = os.environ.get("STANDIN_LEDGER")
        return cls(Path(folder), f"{owner}-{uuid.uuid4().hex[:8]}") if folder else None

    @contextmanager
    def _locked(self) -> Iterator[State]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = self._read()
            self._expire(state)
            yield state
            temporary = self._folder / f"ledger.{os.getpid()}.{threading.get_ident()}"
            temporary.write_text(json.dumps(state))
            temporary.replace(self._folder / "ledger.json")

    def _read(self) -> State:
        try:
            return dict(json.loads((self._folder / "ledger.json").read_text()))
        except FileNotFoundError:
            return {"gpus": parse_gpus(os.environ.get("STANDIN_GPUS", "0:24GiB")), "allocations": []}

    def _expire(self, state: State) -> None:
        now = self._clock()
        state["allocations"] = [
            a for a in state["allocations"] if now - a["heartbeat"] <= EXPIRY_S and now < a.get("until", now + 1)
        ]

    def gpus(self) -> list[Gpu]:
        """Return all devices with what is used now, by anyone."""
        with self._locked() as state:
            used = dict.fromkeys(state["gpus"], 0)
            for allocation in state["allocations"]:
                used[allocation["gpu"]] += allocation["bytes"]
            return [Gpu(i, g["uuid"], g["name"], g["total"], used[i]) for i, g in sorted(state["gpus"].items())]

    def mine(self) -> list[Gpu]:
        """Return the devices that this container sees, in CUDA's order."""
        everything = {gpu.index: gpu for gpu in self.gpus()}
        return [everything[i] for i in visible(list(everything), dict(os.environ))]

    def allocate(self, gpu: str, size: int, label: str) -> int:
        """Take up to `size` bytes of a device and return how many were free to take."""
        with self._locked() as state:
            held = sum(a["bytes"] for a in state["allocations"] if a["gpu"] == gpu)
            taken: int = max(0, min(size, state["gpus"][gpu]["total"] - held))
            state["allocations"].append(
                {"owner": self.owner, "label": label, "gpu": gpu, "bytes": taken, "heartbeat": self._clock()}
            )
        self._beat()
        return taken

    def release(self, label: str, *, now: bool = False) -> None:
        """Give a label's memory back; it becomes free a moment later, as with a real driver."""
        with self._locked() as state:
            for allocation in state["allocations"]:
                if allocation["owner"] == self.owner and allocation["label"] == label:
                    allocation["until"] = self._clock() + (0 if now else RETURN_S)

    def close(self) -> None:
        """Give everything back at once and stop the heartbeat."""
        self._stop.set()
        with self._locked() as state:
            state["allocations"] = [a for a in state["allocations"] if a["owner"] != self.owner]

    def _beat(self) -> None:
        if not self._beating:
            self._beating = True
            threading.Thread(target=self._beats, daemon=True).start()

    def _beats(self) -> None:
        while not self._stop.wait(BEAT_S):
            with self._locked() as state:
                for allocation in state["allocations"]:
                    if allocation["owner"] == self.owner:
                        allocation["heartbeat"] = self._clock()
