"""Step kinds and the actions that carry them out."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.plan import Step
from orchestrator.steps import Action, Context
from orchestrator.steps.baseline import TakeBaseline
from orchestrator.steps.contractgate import ContractGate, RenderingGate
from orchestrator.steps.edit import Drain, KeepSpec, Lower, Raise, ReuseEvidence
from orchestrator.steps.engines import StartEngine, StopEngine
from orchestrator.steps.files import WriteFiles
from orchestrator.steps.images import FetchImage
from orchestrator.steps.loadgate import LoadGate
from orchestrator.steps.paritygate import ParityGate, VectorGate
from orchestrator.steps.reload import ReloadServices
from orchestrator.steps.remove import RemoveStack
from orchestrator.steps.services import StartService
from orchestrator.steps.takeover import OpenGateway, Restore, TakeOver
from orchestrator.steps.traffic import Shift, Unshift
from orchestrator.steps.unused import RemoveUnused
from orchestrator.steps.verify import Gate, Health

Maker = Callable[[Context, Step], Action]

MAKERS: dict[str, Maker] = {
    "write-files": lambda context, _: WriteFiles(context),
    "fetch-image": lambda context, step: FetchImage(context, step.target),
    "start-ollama": lambda context, step: StartService(context, step.target),
    "start-service": lambda context, step: StartService(context, step.target),
    "open-gateway": lambda context, _: OpenGateway(context),
    "take-baseline": lambda context, _: TakeBaseline(context),
    "take-over": lambda context, _: TakeOver(context),
    "restore": lambda context, _: Restore(context),
    "start-engine": lambda context, step: StartEngine(context, step.target),
    "recreate-engine": lambda context, step: StartEngine(context, step.target),
    "stop-engine": lambda context, step: StopEngine(context, step.target),
    "remove-unused": lambda context, _: RemoveUnused(context),
    "check-health": lambda context, step: Health(context, step.target),
    "check-parity": lambda context, step: ParityGate(context, step.target),
    "check-vectors": lambda context, step: VectorGate(context, step.target),
    "reload-services": lambda context, _: ReloadServices(context),
    "check-load": lambda context, step: LoadGate(context, step.target),
    "shift": lambda context, step: Shift(context, tuple(step.data["routes"]), float(step.data["weight"])),
    "unshift": lambda context, step: Unshift(
        context, tuple(step.data["routes"]), leaving=bool(step.data["leaving"])
    ),
    "lower": lambda context, step: Lower(context, tuple(step.data["routes"])),
    "drain": lambda context, step: Drain(
        context, tuple(step.data["routes"]), float(step.data["seconds"]), cut=step.data["when_busy"] == "cut"
    ),
    "keep-spec": lambda context, _: KeepSpec(context),
    "reuse-evidence": lambda context, step: ReuseEvidence(context, step.target),
    "raise": lambda context, step: Raise(context, tuple(step.data["routes"])),
    "remove-stack": lambda context, step: RemoveStack(context, volumes=bool(step.data["volumes"])),
}


GATES: tuple[type[Gate], ...] = (Health, RenderingGate, ContractGate, ParityGate, VectorGate, LoadGate)


def groups() -> tuple[str, ...]:
    """Return the groups of all checks, as `up --skip` takes them."""
    return tuple(dict.fromkeys(group for gate in GATES for group in gate.groups))


def build(step: Step, context: Context) -> Action:
    """Return the action of a step."""
    return MAKERS[step.kind](context, step)
