"""Taking turns: where both engines cannot be resident but each alone fits, what a hand-over would be and cost.

A plan shape, not something that `up` does: it is computed and told, and nothing of it is rendered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping as MappingType
from dataclasses import dataclass

from orchestrator.decide import eta, today
from orchestrator.decide.budget import pinned_bytes
from orchestrator.decide.catalog import Catalog
from orchestrator.decide.mapping import Mapping
from orchestrator.decide.placement import Placed, place
from orchestrator.decide.readings import number
from orchestrator.decide.search import Wanted
from orchestrator.decide.vram import SPARE, gib, others_on, spread
from orchestrator.facts import Facts
from orchestrator.spec_needs import Needs

PATIENCE = 30.0     # seconds; a common timeout of clients (S3)
Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Handover:
    """One model whose engine and Ollama would take turns. Sizes in bytes per GPU, times in seconds, as (low, high).

    `vllm` and `ollama`: the inequality of each GPU with the other side at 0. `refused`: why it is not worth
    preparing; empty where clients wait long enough. `instead`: what else would do.
    """

    model: str
    repo: str
    scheme: str
    quantization: str
    gpus: tuple[str, ...]
    context: int
    sequences: int
    kv: int
    utilization: float
    vllm: tuple[str, ...]
    ollama: tuple[str, ...]
    ollama_gpus: tuple[str, ...]
    to_vllm: Span
    to_ollama: Span
    why: tuple[str, str]
    patience: float
    patience_from: str
    refused: str
    instead: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rest:
    """Ollama's side: its inequality on each of its GPUs, bytes of all its models, bytes on each GPU."""

    lines: tuple[str, ...]
    gpus: tuple[str, ...]
    size: int
    each: int


def handover(
    mapping: Mapping, names: tuple[str, ...], facts: Facts, catalog: Catalog, wanted: Wanted,
    *, needs: Needs | None = None, taken: MappingType[str, int] | None = None,
) -> Handover | None:  # fmt: skip
    """Return how `mapping`'s engine and Ollama's models `names` would take turns; None where one alone does not fit.

    `taken`: bytes per GPU of engines that stay resident beside both.
    """
    others = others_on(facts.gpus, facts.ollama.loaded)
    for gpu, held in (taken or {}).items():
        others[gpu] = others.get(gpu, 0) + held

    def both(length: int) -> Handover | None:
        size, _ = pinned_bytes(names, facts, catalog, length, today.parallel(facts))
        found = place([mapping], facts.gpus, others, 0, context=length, max_num_seqs=wanted.sequences, alone=True)
        rest = place([], facts.gpus, others, size, context=length) if found.placed else None
        if rest is None or not rest.home:
            return None
        one = found.placed[0]
        alone = tuple(str(budget) for budget in found.budgets if budget.gpu in one.gpus)
        kept = tuple(str(budget) for budget in rest.budgets if budget.gpu in rest.home)
        ollama = Rest(kept, rest.home, size, spread(size, len(rest.home)))
        return told(one, length, alone, ollama, facts, needs or Needs())

    lengths = list(wanted.contexts())
    last = both(lengths[-1])        # what the shortest context does not allow, a longer one does not
    return next(found for length in lengths if (found := both(length))) if last else None


def told(
    one: Placed, length: int, alone: tuple[str, ...], rest: Rest, facts: Facts, needs: Needs
) -> Handover:
    """Return the hand-over of an engine that fits alone, with `alone` as the inequality of each of its GPUs."""
    running = number(facts.traffic.latency.p99) or 0.0
    start = eta.engine_start([one.share.weights * one.share.ask.tensor_parallel])
    load = eta.ollama_start(rest.size)
    settle = eta.SETTLE
    there = (settle[0] + start.low_s, running + settle[1] + (start.high_s or math.inf))
    back = (settle[0] + load.low_s, running + settle[1] + (load.high_s or math.inf))
    waits, source = patience(facts, needs)
    return Handover(
        one.mapping.model, one.repo, one.share.ask.scheme, one.flag, one.gpus, length, one.share.ask.max_num_seqs,
        one.share.kv, one.share.utilization, alone, rest.lines, rest.gpus, there, back, (start.why, load.why),
        waits, source, (refused := refusal(max(there[1], back[1]), waits)),
        _instead(one, rest.each, max(there[1], back[1]) if refused else 0.0),
    )  # fmt: skip


def patience(facts: Facts, needs: Needs) -> tuple[float, str]:
    """Return how long clients wait for an answer, in seconds, and how that is known."""
    if needs.client_timeout is not None:
        return needs.client_timeout, "needs.client_timeout, as stated"
    longest = number(facts.traffic.latency.peak)
    if longest and longest > PATIENCE:
        return longest, f"the longest answer in {facts.traffic.origin or 'the log'}: somebody waited for it"
    return PATIENCE, "assumed: 30 s is a common timeout (cited, S3); migrate.yaml can say needs: {client_timeout: 10m}"


def refusal(swap: float, waits: float) -> str:
    """Return why taking turns would fail clients; empty where the slowest swap is over before they give up."""
    if swap <= waits:
        return ""
    return f"a swap takes up to {eta.duration(swap)}, and clients wait {eta.duration(waits)}: held requests would fail"


def _instead(one: Placed, ollama: int, swap: float) -> tuple[str, ...]:
    """Return what else would do. `swap`: the seconds that clients do not wait; 0 where they do."""
    share, ask = one.share, one.share.ask
    least = max(share.weights + ask.one_sequence() + share.activations + share.graphs + ask.context(), one.loading)
    size = gib(least + SPARE)
    count = len(one.gpus)
    more = f"{count} more GPUs of {size} or more each" if count > 1 else f"a second GPU of {size} or more"
    longer = f"clients that wait {eta.duration(swap)} or longer (a timeout of theirs), stated as needs.client_timeout"
    return (
        f"{more} for vLLM, or one of {gib(ollama + SPARE)} for Ollama",
        *((longer,) if swap else ()),
        "retiring Ollama's copy altogether in a window that users agree to: then there is no way back but a reload",
    )


def handover_lines(found: Handover) -> list[str]:
    """Return the section of the printed plan."""
    made = f" --quantization {found.quantization}" if found.quantization else ""
    alone = (
        f"vLLM alone: {found.repo} ({found.scheme}{made}) on GPU {', '.join(found.gpus)}, {found.context} tokens, "
        f"{found.sequences} sequences, KV {gib(found.kv)}, Ollama 0"
    )
    rehearsal = (
        "rehearse: in a window that you confirm: hold requests, unload Ollama, start vLLM, run the gates, stop it, "
        "reload Ollama; both times are kept"
    )
    return [
        f"{found.model}: vLLM and Ollama cannot be resident together; each alone fits, so they would take turns",
        alone,
        *(f"  {line}" for line in found.vllm),
        f"Ollama alone: on GPU {', '.join(found.ollama_gpus)}, vLLM 0",
        *(f"  {line}" for line in found.ollama),
        "prepared: image and weights are fetched, Ollama serves everything",
        rehearsal,
        "cutover: 0 -> 100 in one step, requests held meanwhile; no canary, and no failover while one side is away",
        "way back: 100 -> 0 the same way; every other model on Ollama is away while vLLM is there",
        f"swap to vLLM: {_span(found.to_vllm)} ({found.why[0]})",
        f"swap back: {_span(found.to_ollama)} ({found.why[1]})",
        f"clients wait {eta.duration(found.patience)}: {found.patience_from}",
        f"refused: {found.refused}" if found.refused else "the slowest swap is over before clients give up",
        *(f"instead: {line}" for line in found.instead),
        "not offered yet: migrate up does not hand over. Nothing of it is rendered; the route stays on Ollama",
    ]


def _span(span: Span) -> str:
    low, high = eta.duration(span[0]), eta.duration(span[1])
    return low if low == high else f"{low} to {high}"
