"""What was seen of the GPUs, as lines of the report. Pure."""

from __future__ import annotations

import textwrap

from orchestrator.facts import Facts, Gpu

_GIB = 2**30
_WIDTH = 100
_MOST = 4           # processes that are named, largest first
_SMALL = 64 * 2**20     # bytes that a process holds and nobody asks about


def seen(facts: Facts) -> list[str]:
    """Return each GPU with its marks and who holds its memory below, then the driver and what NVML said beside."""
    lines: list[str] = []
    for gpu in facts.gpus:
        memory = f"{gpu.total / _GIB:.1f} GiB, {gpu.free / _GIB:.1f} free"
        lines.append(f"GPU {gpu.index}: {gpu.name}, {memory}, compute capability {gpu.compute_capability}")
        held = _held(gpu)
        lines += [f"  {mark}" for mark in (*_marks(gpu), *([f"held by {held}"] if held else []))]
    if not facts.gpus:
        lines.append(f"GPU: none ({facts.gpu_problem})")
    elif facts.driver:
        cuda = f", CUDA {facts.cuda} at most" if facts.cuda else ""
        lines.append(f"NVIDIA driver {facts.driver}{cuda}")
    if facts.gpus:
        lines += [line for note in facts.gpu_notes
                  for line in textwrap.wrap(note, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)]  # fmt: skip
    if facts.host.ram_limit:
        lines.append(f"RAM: {facts.host.ram_limit / _GIB:.1f} GiB, the limit of the container that this runs in")
    return lines


def _marks(gpu: Gpu) -> list[str]:
    marks = []
    if gpu.mig:
        marks.append(f"MIG instance {gpu.uuid}")
    if gpu.display:
        marks.append("a screen hangs on it")
    if gpu.unified:
        marks.append("its memory is the host's")
    return marks


def _held(gpu: Gpu) -> str:
    big = [one for one in gpu.holders if one.bytes is None or one.bytes >= _SMALL]
    words = [f"{one.name or 'process'} (pid {one.pid})" + (f" {one.bytes / _GIB:.1f} GiB" if one.bytes else "")
             for one in big[:_MOST]]  # fmt: skip
    more = len(big) - _MOST
    return ", ".join(words) + (f" and {more} more" if more > 0 else "")
