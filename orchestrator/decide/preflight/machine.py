"""Memory, shared memory, ports and file descriptors of the machine."""

from __future__ import annotations

from orchestrator.decide import vram
from orchestrator.decide.preflight.disk import weights_bytes
from orchestrator.decide.preflight.result import Probes, Result
from orchestrator.facts import Facts
from orchestrator.spec import Spec

OPEN_FILES = 1024


def ram(facts: Facts, spec: Spec | None, probes: Probes) -> Result:
    seen = facts.host.ram if facts.host.ram is not None else probes.ram
    if seen is None:
        return Result("not checked", "RAM", "not seen")
    largest = max((weights_bytes(one) or 0 for one in spec.engines.values()), default=0) if spec else 0
    needed = 8 * vram.GIB * max(1, len(spec.engines) if spec else 1)
    text = f"{vram.gib(seen)}; the engines want about {vram.gib(needed)}"
    if seen < needed:
        return Result("warn", "RAM", text, "add memory or swap, or the kernel ends a process while weights load")
    slow = f"; weights of {vram.gib(largest)} do not fit its page cache, so that each start reads the disk"
    return Result("ok", "RAM", text + (slow if largest > seen else ""))


def shm(facts: Facts, spec: Spec | None) -> list[Result]:
    ranks = max((engine.tensor_parallel for engine in spec.engines.values()), default=1) if spec else 1
    if ranks < 2:
        return []
    if facts.host.shm is None:
        return [Result("not checked", "shared memory", "each engine has its own; the host's was not seen")]
    small = facts.host.shm < vram.GIB
    return [Result("warn" if small else "ok", "shared memory", f"{vram.gib(facts.host.shm)} on the host, {ranks} ranks",
                   "keep shm_size in the stack; do not use ipc: host here" if small else "")]  # fmt: skip


def ports(facts: Facts, spec: Spec | None, probes: Probes) -> list[Result]:
    if spec is None:
        return []
    found = []
    original = {f"container {name}" for name in (spec.ollama.container, facts.ollama.container.name
                if facts.ollama.container else None) if name}  # fmt: skip
    for key, port in spec.gateway.ports().items():
        holder = probes.ports.get(port)
        if holder is None:
            found.append(Result("not checked", f"port {port}", "not tried"))
        elif not holder or f"container migrate-{spec.name}-" in holder:
            found.append(Result("ok", f"port {port}", "free" if not holder else "held by this stack"))
        elif key == "port" and (holder in original or "ollama" in holder.lower()):
            found.append(Result("ok", f"port {port}", f"{holder} has it, and gives it up when the gateway takes over"))
        else:
            found.append(Result("fail", f"port {port}", f"{holder} listens there", f"stop it, or set gateway.{key}",
                                blocks=key != "port"))  # fmt: skip
    return found


def files(facts: Facts, probes: Probes) -> Result:
    limit = facts.host.open_files if facts.host.open_files is not None else probes.open_files
    if limit is None:
        return Result("not checked", "open files", "not seen")
    if limit < OPEN_FILES:
        return Result("warn", "open files", f"a process may open {limit}", "ulimit -n 65536")
    return Result("ok", "open files", f"a process may open {limit}")
