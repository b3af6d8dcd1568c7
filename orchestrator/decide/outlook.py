"""What a plan means for people: what changes for their clients, and how they go back. Plain lines, no I/O."""

from __future__ import annotations

from orchestrator.decide.callers import summary
from orchestrator.facts import Facts
from orchestrator.spec import Spec, Thresholds


def clients(spec: Spec, facts: Facts) -> list[str]:
    """Return what is only nearly the same for routes that move, and who calls; one sentence each."""
    moving = spec.migrating()
    address = f"{spec.gateway.listen}:{spec.gateway.port}"
    lines = [f"the gateway takes Ollama's own address {address} and speaks its API, native and /v1, for both sides"]
    lines += summary.lines(facts)
    if moving:
        lines += [
            f"num_ctx and other memory options of a request are ignored: the context is fixed ({_contexts(spec)})",
            "a prompt that is too long loses its oldest messages, as in Ollama",
            "answers differ in wording, as another engine with other weights computes them: smoke parity compares them",
        ]
    if any(route.kind == "embedding" for route in moving.values()):
        lines.append("vectors of an embedding model that moves are not interchangeable: re-index after the switch")
    return lines


def _contexts(spec: Spec) -> str:
    return ", ".join(f"{route} {spec.engines[one.engine].max_model_len} tokens"
                     for route, one in spec.migrating().items() if one.engine)  # fmt: skip


def way_back(spec: Spec) -> list[str]:
    """Return how to undo what the plan does, by how far it has come."""
    if not spec.migrating():
        return ["nothing to go back from"]
    lines = [
        "before migrate up: delete the stack's folder; nothing else was touched",
        "at any time after: migrate rollback sends every new request to Ollama at once; running answers end normally",
        "the address too: migrate rollback --restore gives the original container its port back, never re-created",
    ]
    lines.append("by itself, during migrate cutover, when " + ", or ".join(triggers(spec.cutover.thresholds)))
    return lines


def triggers(limits: Thresholds) -> list[str]:
    """Return what sends traffic back by itself, one clause each: the same words in plan, note and checklist."""
    lines = [f"more than {limits.error_rate * 100:g} % of requests are not answered completely"]
    if limits.ttft_p95 is not None:
        late = f"{limits.ttft_p95:g} s" if limits.ttft_p95 >= 1 else f"{limits.ttft_p95 * 1000:g} ms"
        lines.append(f"the p95 time to first token is over {late}")
    if limits.ttft_ratio is not None:
        lines.append(f"vLLM's median time to first token is over {limits.ttft_ratio:g} times Ollama's")
    if limits.e2e_ratio is not None:
        lines.append(f"vLLM's median total time is over {limits.e2e_ratio:g} times Ollama's")
    return lines
