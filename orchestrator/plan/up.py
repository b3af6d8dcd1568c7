"""From here to proven routes; after an edit, by way of Ollama where an engine with traffic is made anew."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.plan.aside import Edit, are, edit_of, give_back, step_aside
from orchestrator.plan.edits import Deployed
from orchestrator.plan.step import Plan, Step
from orchestrator.spec import Spec
from orchestrator.state import SHIFTABLE, EngineState, StackState, States

# Whether these are done already does not depend on the steps before them; of the others, only when nothing comes first.
FIRST = ("fetch-image", "start-ollama", "start-service", "remove-unused", "start-engine")
THEN = ("write-files", "reload-services", "check-health", "check-parity", "check-vectors", "check-load")


def plan_up(spec: Spec, states: States, deployed: Deployed | None = None) -> Plan:
    """Steps from here to proven routes: deploy, health, parity, load.

    `deployed` tells an edit of what runs from a first deployment. Raises WrongState where the edit cannot be made
    while clients are served.
    """
    known = deployed or Deployed()
    edit = edit_of(spec, states, known)
    return Plan("up", spec.name, tuple(_left(list(_up(spec, states, known, edit)), known, edit)))


def images(spec: Spec) -> dict[str, list[str]]:
    """Return every image of the stack and who needs it, in the order in which they are needed."""
    users: dict[str, list[str]] = {}
    if spec.ollama.container:
        users.setdefault(spec.ollama.image, []).append("ollama")
    users.setdefault(spec.images.sidecar, []).append("adapter, guard, preload")
    users.setdefault(spec.images.gateway, []).append("gateway")
    for name, engine in spec.engines.items():
        users.setdefault(engine.image or spec.images.vllm, []).append(f"vllm-{name}")
    return users


def _left(steps: list[Step], known: Deployed, edit: Edit) -> list[Step]:
    """Leave out what is done already: a plan names what it touches, and a stack as it should be has none."""
    anew = "start-service" if _why(edit, "adapter") else ""     # guard and preload have the adapter's image
    left = [one for one in steps if one.kind == anew or one.kind not in FIRST or str(one) not in known.settled]
    busy = edit.found or edit.back or any(one.kind in FIRST for one in left)
    return left if busy else [one for one in left if one.kind not in THEN or str(one) not in known.settled]


def _up(spec: Spec, states: States, known: Deployed, edit: Edit) -> Iterator[Step]:
    if edit.aside:
        # What takes long and cuts nothing comes first: Ollama serves alone as short as possible.
        yield from _images(spec)
        yield from step_aside(spec, edit)
    yield Step("write-files", "stack", "the stack follows migrate.yaml")
    yield from _baseline(spec, states)
    if not edit.aside:
        yield from _images(spec)
    if spec.ollama.container:
        yield Step("start-ollama", "ollama", "same image and models as the original, beside it")
    yield Step("start-service", "adapter", _why(edit, "adapter") or "speaks Ollama's dialect on top of vLLM")
    yield from _gateway(spec, states)
    yield Step("start-service", "guard", "lowers the weight of a hung or dead engine")
    if any(route.shadow for route in spec.migrating().values()):
        yield Step("start-service", "shadow", "asks vLLM a share of what Ollama answers, and keeps both answers")
    if spec.ollama.pinned:
        yield Step("start-service", "preload", f"keeps {', '.join(spec.ollama.pinned)} loaded in Ollama")
    yield Step("remove-unused", "engines", _removed(spec, known) or "migrate.yaml does not name them any more")
    for name in spec.engines:
        yield _engine(spec, states, known, edit, name)
    yield from _gates(spec, states, edit)
    if edit.aside:
        yield Step("keep-spec", "stack", "the edit is done: from here the way back is another edit")
    if edit.back:
        yield give_back(edit.back, asks=True)


def _baseline(spec: Spec, states: States) -> Iterator[Step]:
    """What Ollama did before can only be measured before: while nothing else runs, and nothing is pinned."""
    models = [model for model, route in spec.migrating().items() if route.kind == "generate"]
    if models and spec.load.baseline and spec.ollama.container and states.stack is not StackState.TAKEN_OVER:
        note = "a few requests, at most 2 minutes for a model; stops where users have to wait (load/baseline: off)"
        yield Step("take-baseline", "ollama", f"how fast {' and '.join(models)} is before anything changes",
                   touches_live=True, note=note)  # fmt: skip


def _images(spec: Spec) -> Iterator[Step]:
    for image, users in images(spec).items():
        yield Step("fetch-image", image, f"needed by {', '.join(users)}")


def _engine(spec: Spec, states: States, known: Deployed, edit: Edit, name: str) -> Step:
    state, repo = states.engines.get(name, EngineState.ABSENT), spec.engines[name].repo
    cause = _why(edit, f"vllm-{name}")
    if known.spec and name in known.spec.engines:
        if cause and not cause.endswith("(it keeps running)"):
            return Step("recreate-engine", name, f"{_made(spec, name)} made anew: {cause}", note="one at a time")
        if state is EngineState.READY:
            return Step("start-engine", name, "as it was deployed; started if it is down")
    return Step("start-engine", name, f"{repo} is {state}", note="one at a time, after Ollama")


def _made(spec: Spec, name: str) -> str:
    return are([f"vllm-{one}" for one in spec.replicas(name)])


def _gates(spec: Spec, states: States, edit: Edit) -> Iterator[Step]:
    steps = list(_every_gate(spec))
    # Without an edit all are named: the evidence may have expired for another reason.
    yield from steps if not edit.found else [step for step in steps if _due(spec, states, edit, step)]


def _due(spec: Spec, states: States, edit: Edit, step: Step) -> bool:
    gate = step.kind.removeprefix("check-")
    models = [model for model, route in spec.migrating().items() if step.target in (model, route.engine)]
    return edit.again(f"{gate} {step.target}") or any(states.routes.get(model) not in SHIFTABLE for model in models)


def _every_gate(spec: Spec) -> Iterator[Step]:
    for name in spec.engines:
        yield Step("check-health", name, "right model, and one token comes back")
    for model, route in spec.migrating().items():
        if route.kind == "generate":
            yield Step("check-parity", model, "both sides answer the same prompts in the same form")
        else:
            yield Step("check-vectors", model, "both sides give the same vectors")
    levels = ", ".join(map(str, spec.load.users))
    for model, route in spec.migrating().items():
        if route.kind == "generate":
            yield Step("check-load", model, f"{levels} users on both sides")


def _why(edit: Edit, service: str) -> str:
    return edit.causes.get(service, "")


def _removed(spec: Spec, known: Deployed) -> str:
    left = {one for name in spec.engines for one in spec.replicas(name)}
    before = [one for name in known.spec.engines for one in known.spec.replicas(name)] if known.spec else []
    gone = [f"vllm-{one}" for one in before if one not in left]
    it = "it" if len(gone) == 1 else "them"
    return f"{', '.join(gone)}: migrate.yaml does not name {it} any more" if gone else ""


def _gateway(spec: Spec, states: States) -> Iterator[Step]:
    address = f"{spec.gateway.listen}:{spec.gateway.port}"
    if not spec.ollama.container:
        yield Step("open-gateway", "gateway", f"listens on {address}")
    elif states.stack is not StackState.TAKEN_OVER:
        yield _take_over(spec, address)
    else:
        yield Step("reload-services", "gateway, adapter", "they follow their files, nothing is cut")


def _take_over(spec: Spec, address: str) -> Step:
    left = "then cuts what is left" if spec.takeover.when_busy == "cut" else "then gives up"
    note = f"waits up to {spec.takeover.drain:.0f} s for running answers, {left}; one restart of Ollama"
    return Step(
        "take-over", address, f"clients keep the address of {spec.ollama.container}", touches_live=True, note=note
    )
