"""From here to proven routes."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.plan.step import Plan, Step
from orchestrator.spec import Spec
from orchestrator.state import EngineState, StackState, States


def plan_up(spec: Spec, states: States) -> Plan:
    """Steps from here to proven routes: deploy, health, parity, load."""
    return Plan("up", spec.name, tuple(_up(spec, states)))


def _up(spec: Spec, states: States) -> Iterator[Step]:
    yield Step("write-files", "stack", "the stack follows migrate.yaml")
    for image, users in images(spec).items():
        yield Step("fetch-image", image, f"needed by {', '.join(users)}")
    if spec.ollama.container:
        yield Step("start-ollama", "ollama", "same image and models as the original, beside it")
    yield Step("start-service", "adapter", "speaks Ollama's dialect on top of vLLM")
    yield from _gateway(spec, states)
    yield Step("start-service", "guard", "lowers the weight of a hung or dead engine")
    if spec.ollama.pinned:
        yield Step("start-service", "preload", f"keeps {', '.join(spec.ollama.pinned)} loaded in Ollama")
    yield Step("remove-unused", "engines", "migrate.yaml does not name them any more")
    for name, engine in spec.engines.items():
        state = states.engines.get(name, EngineState.ABSENT)
        yield Step("start-engine", name, f"{engine.repo} is {state}", note="one at a time, after Ollama")
    yield from _gates(spec)


def _gates(spec: Spec) -> Iterator[Step]:
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


def plan_back(spec: Spec, states: States) -> Plan:
    return plan_up(spec, states)
