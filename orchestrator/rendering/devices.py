"""GPUs as Docker is to be told of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.facts import Facts
from orchestrator.spec import Spec


def for_docker(spec: Spec, facts: Facts | None) -> Spec:
    """Return the spec with MIG instances by UUID; whole GPUs keep the name that the spec gives them.

    The index of an instance (0:1) moves to another when one before it is destroyed, and not all of Docker's ways to
    give a GPU know it; the UUID stays.
    """
    uuids = {gpu.index: gpu.uuid for gpu in facts.gpus if gpu.mig and gpu.uuid} if facts else {}
    if not uuids:
        return spec

    def named(gpus: Iterable[str]) -> tuple[str, ...]:
        return tuple(uuids.get(gpu, gpu) for gpu in gpus)

    engines = {name: one.model_copy(update={"gpus": named(one.gpus)}) for name, one in spec.engines.items()}
    ollama = spec.ollama.model_copy(update={"gpus": named(spec.ollama.gpus)})
    return spec.model_copy(update={"engines": engines, "ollama": ollama})
