"""Room for images and weights, each on the file system where it will lie."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from orchestrator.decide import vram
from orchestrator.decide.catalog import Entry, load
from orchestrator.decide.mapping import is_local
from orchestrator.decide.preflight.result import Probes, Result
from orchestrator.spec import Spec
from orchestrator.spec_engine import Engine

IMAGE_DISK = 25 * vram.GIB      # vLLM's image unpacked, with room to unpack it
CPU_IMAGE_DISK = 8 * vram.GIB   # its CPU build
OTHER_DISK = 3 * vram.GIB       # the other images, logs, compile cache
_CERTAIN = 0.5                  # of an image: what it takes at the very least


@dataclass(frozen=True, slots=True)
class _Need:
    """Bytes that something wants on one file system. `least`: what it takes for certain."""

    path: str
    wanted: int
    least: int = 0


def weights_bytes(engine: Engine) -> int | None:
    """Return the size of an engine's weights on disk; None where the catalogue does not know the repository."""
    known = load().by_repo(engine.repo)
    entry: Entry | None = known[0] if known else None
    if known is None or entry is None or not entry.numbers.params_b:
        return None
    return vram.Ask("", entry.numbers, known[1]).weights()


def own_image(image: str) -> bool:
    """Whether an image is one of vLLM's own builds, wherever it is mirrored: it then loads the weights it names."""
    return image.partition("@")[0].rpartition("/")[2].startswith("vllm-openai")


def disk(spec: Spec | None, probes: Probes) -> list[Result]:
    if not probes.docker_root or probes.docker_root not in probes.disk_free:
        return [Result("not checked", "disk", "where Docker keeps images and volumes was not seen")]
    needs = [_Need(probes.docker_root, OTHER_DISK), *_images(spec, probes)]
    unknown = []
    for name, engine in (spec.engines if spec else {}).items():
        if is_local(engine.repo):
            continue
        found = _weights(name, engine, spec, probes)
        needs += [found] if found else []
        unknown += [] if found else [engine.repo]
    return [*_judged(needs, probes), *_unknown(sorted(set(unknown)))]


def _images(spec: Spec | None, probes: Probes) -> list[_Need]:
    if spec is None:
        return []
    size = CPU_IMAGE_DISK if spec.accelerator == "cpu" else IMAGE_DISK
    images = {engine.image or spec.images.vllm for engine in spec.engines.values()} - set(probes.images_here)
    return [_Need(probes.docker_root, size, int(size * _CERTAIN) if own_image(one) else 0) for one in sorted(images)]


def _weights(name: str, engine: Engine, spec: Spec | None, probes: Probes) -> _Need | None:
    """Return what is still to be downloaded; None where its size is not known."""
    path = probes.weights_at.get(name, probes.docker_root)
    told = probes.hub.get(engine.repo)
    exact = told.weights if told else None
    size = exact or weights_bytes(engine)
    here = probes.weights_here.get(name, 0)
    if size is None:
        return None
    if here is None:    # a cache that cannot be read may hold them
        return _Need(path, size)
    offline = (engine.env | engine.vllm.env).get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    left = max(0, size - here) if here < 0.95 * size else 0
    real = spec is not None and own_image(engine.image or spec.images.vllm) and not offline
    return _Need(path, left, int(left * (0.98 if exact else 0.9)) if real else 0)


def _judged(needs: list[_Need], probes: Probes) -> list[Result]:
    mounts: dict[object, list[_Need]] = defaultdict(list)
    found = []
    for one in needs:
        mounts[probes.disk_device.get(one.path, one.path)].append(one)
    for some in mounts.values():
        path = some[0].path
        if path not in probes.disk_free:
            found.append(Result("not checked", "disk", f"how much is free at {path} was not seen"))
            continue
        free, wanted = probes.disk_free[path], sum(one.wanted for one in some)
        what = "images and weights want" if path == probes.docker_root else "weights want"
        text = f"{vram.gib(free)} free at {path}; {what} about {vram.gib(wanted)}"
        fix = "free some, or move Docker's data-root to a larger disk" if path == probes.docker_root else \
            "free some, or mount a larger disk at the engine's cache (engines.NAME.volumes)"  # fmt: skip
        found.append(Result("ok", "disk", text) if free >= wanted else
                     Result("fail", "disk", text, fix, blocks=free < sum(one.least for one in some)))  # fmt: skip
    return found


def _unknown(repos: list[str]) -> list[Result]:
    return [Result("not checked", "disk", f"the size of {', '.join(repos)} is not in the catalogue",
                   "look at its files on Hugging Face and leave as much free")] if repos else []  # fmt: skip
