"""Whether this machine can carry the stack: each thing looked at once, with what to do where it is not right. Pure."""

from __future__ import annotations

from orchestrator.decide.preflight.cards import capability, cuda, driver_cuda, gpus, image_cuda
from orchestrator.decide.preflight.disk import disk
from orchestrator.decide.preflight.engine import container, docker, runtime, system
from orchestrator.decide.preflight.machine import files, ports, ram, shm
from orchestrator.decide.preflight.repositories import repositories
from orchestrator.decide.preflight.result import Probes, Result, Status, blocking, failed
from orchestrator.facts import Facts
from orchestrator.spec import Spec

__all__ = ["Probes", "Result", "Status", "blocking", "check", "driver_cuda", "failed", "image_cuda"]


def check(facts: Facts, spec: Spec | None = None, probes: Probes | None = None) -> list[Result]:
    """Return every thing that was looked at, in the order in which they build on one another."""
    probes = probes or Probes()
    cpu = spec is not None and spec.accelerator == "cpu"
    found = [system(facts), *docker(facts)]
    if not cpu:
        found += [runtime(probes), container(probes), *gpus(facts), *cuda(facts, spec), *capability(facts, spec)]
    found += [*disk(spec, probes), ram(facts, spec, probes), *shm(facts, spec), *ports(facts, spec, probes)]
    return [*found, files(facts, probes), *repositories(spec, probes)]
