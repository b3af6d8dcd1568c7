"""Whether vLLM can run here at all: the first question of a verdict."""

from __future__ import annotations

import re

from orchestrator.decide.readings import number
from orchestrator.decide.verdict.parts import Missing, Reason
from orchestrator.facts import Facts, Gpu

FLOOR = 7.5     # vLLM's documentation, 0.32
_BFLOAT16 = 8.0
_MLX = (
    "stay on Ollama: its MLX engine for Apple chips (preview since March 2026, OLLAMA_USE_MLX=1) is cited with "
    "130 against 43 tok/s on an M4 Pro (S0)"
)
ELSEWHERE = Missing(
    "a GPU that vLLM runs on", 'run this on the GPU server, or plan for one: migrate plan --gpu "24GiB,cc8.9"'
)


def hardware(facts: Facts, scheme_capability: float | None = None) -> tuple[list[Reason], list[Missing]]:
    """Return what the machine says; a reason that points to `cannot` ends the question.

    `scheme_capability`: the compute capability that the chosen weight format needs.
    """
    nvidia = [gpu for gpu in facts.gpus if gpu.vendor.lower() in ("nvidia", "")]
    if not nvidia:
        return [_none(facts)], [ELSEWHERE]
    unknown = [gpu for gpu in nvidia if not (number(gpu.compute_capability) or 0) > 0]
    known = [gpu for gpu in nvidia if gpu not in unknown]
    found, missing = _capability(known, scheme_capability) if known else ([], [])
    if unknown and not any(reason.points == "" and reason.evidence == "measured" for reason in found):
        names = ", ".join(_name(gpu) for gpu in unknown)
        found = [Reason("hardware", f"the compute capability of {names} is not known; vLLM needs {FLOOR}", "unknown")]
        missing = [Missing("the compute capability", "nvidia-smi --query-gpu=compute_cap --format=csv,noheader")]
    return [*found, *_notes(facts, nvidia)], missing


def _name(gpu: Gpu) -> str:
    return f"GPU {gpu.index} ({gpu.name})" if gpu.name else f"GPU {gpu.index}"


def _none(facts: Facts) -> Reason:
    vendors = {gpu.vendor.lower() for gpu in facts.gpus}
    mac = facts.host.system.lower() == "darwin"
    if "apple" in vendors or (mac and facts.host.machine.lower() in ("arm64", "aarch64")):
        return Reason("hardware", f"Apple Silicon: vLLM here needs an NVIDIA GPU; {_MLX}", "measured", "cannot")
    if "amd" in vendors:
        names = ", ".join(gpu.name for gpu in facts.gpus if gpu.vendor.lower() == "amd")
        text = f"AMD GPU ({names}): vLLM can (ROCm builds), this tool does not yet"
        return Reason("hardware", text, "measured", "cannot")
    why = f": {facts.gpu_problem}" if facts.gpu_problem else ""
    where = "a Mac without NVIDIA GPU" if mac else "no NVIDIA GPU was found"
    host = re.match(r"(?:\w+://)?(\[[^]]*\]|[^/:]+)", facts.ollama.url)
    if host and not re.fullmatch(r"localhost|\[::1?\]|127\..*|0\.0\.0\.0", host[1]):
        why += f" (looked for on this machine; Ollama answers at {host[1]})"
    text = f"{where}{why}; on a CPU Ollama is the better choice (S1, S2, S3)"
    return Reason("hardware", text, "measured", "cannot")


def _capability(gpus: list[Gpu], scheme: float | None) -> tuple[list[Reason], list[Missing]]:
    best = max(gpus, key=lambda gpu: gpu.compute_capability)
    have = best.compute_capability
    if have < FLOOR:
        text = f"{_name(best)} has compute capability {have:.1f}; vLLM needs {FLOOR} (its documentation; S3 says 8.0)"
        return [Reason("hardware", text, "measured", "cannot")], [ELSEWHERE]
    if scheme is not None and have < scheme:
        text = (f"{_name(best)} has compute capability {have:.1f}; the chosen weight format needs {scheme:g}. "
                "Another format of the same model may run: name its repository in the spec")  # fmt: skip
        return [Reason("hardware", text, "measured", "cannot")], []
    text = f"{_name(best)}, compute capability {have:.1f}: vLLM runs on it"
    if have < _BFLOAT16:
        text += "; no bfloat16 below 8.0, so float16 is used (S3 asks for 8.0, vLLM itself for 7.5)"
    found = [Reason("hardware", text, "measured")]
    floor = max(FLOOR, scheme or 0)
    old = [gpu for gpu in gpus if gpu.compute_capability < floor]
    if old:
        names = ", ".join(f"{_name(gpu)} {gpu.compute_capability:.1f}" for gpu in old)
        found.append(Reason("hardware", f"left to Ollama, below {floor:g}: {names}", "measured"))
    return found, []


def _notes(facts: Facts, nvidia: list[Gpu]) -> list[Reason]:
    found = []
    others = [gpu for gpu in facts.gpus if gpu not in nvidia]
    if others:
        names = ", ".join(f"{_name(gpu)}, {gpu.vendor}" for gpu in others)
        found.append(Reason("hardware", f"not used by vLLM here: {names}", "measured"))
    if facts.host.wsl:
        text = ("WSL2: works through Docker and the Windows driver; no pinned memory, so loads are slower, "
                "and the desktop takes a changing part of the VRAM")  # fmt: skip
        found.append(Reason("hardware", text, "measured"))
    elif facts.host.system.lower() == "windows":
        text = "Windows: vLLM has no native build; it needs Docker with WSL2"
        found.append(Reason("hardware", text, "measured"))
    return found
