"""Everything that `plan` decides, from frozen facts: verdict, what today's Ollama could be set to, proposal, proof."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.decide import adapters, capability
from orchestrator.decide.budget import Proof, Running, proof
from orchestrator.decide.catalog import load
from orchestrator.decide.handover import Handover
from orchestrator.decide.handover_spec import handovers
from orchestrator.decide.propose import Proposal, propose, sorted_out
from orchestrator.decide.tuning import Setting, tuning
from orchestrator.decide.verdict import Verdict, decide
from orchestrator.errors import UsageError
from orchestrator.facts import Facts
from orchestrator.spec import Spec
from orchestrator.spec_needs import Needs

RENDERED = frozenset({"consider", "migrate"})


@dataclass(frozen=True, slots=True)
class Planned:
    """What was decided. No `spec`: nothing is to be written, and the verdict says why."""

    verdict: Verdict
    settings: tuple[Setting, ...]
    spec: Spec | None = None
    proposal: Proposal | None = None
    sums: Proof | None = None
    forced: bool = False        # the verdict was to stay, and the user went on all the same
    rehearsal: bool = False     # vLLM's CPU build: the verdict is about the real thing
    handover: tuple[Handover, ...] = ()     # models that could only take turns with Ollama; nothing of it is rendered


def decide_plan(
    name: str,
    facts: Facts,
    models: tuple[str, ...] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    written: Spec | None = None,
    force: bool = False,
    running: Iterable[Running] = (),
) -> Planned:
    """Decide for the stack `name`. `written`: its migrate.yaml where there is one, which is kept as it is.

    Raises UsageError when the proposal with its overrides is no valid spec.
    """
    overrides = overrides or {}
    needs = written.needs if written else _needs(overrides)
    settings, catalog = tuple(tuning(facts)), load()
    rehearsal = (written.accelerator if written else overrides.get("accelerator")) == "cpu"
    if written is not None:
        adapters.require(written, facts, "migrate.yaml")
        verdict = decide(facts, needs, capability.of_spec(written, facts, catalog))
        running = tuple(running)
        sums = proof(written, facts, catalog, running)
        turns = handovers(written, facts, catalog, sums, running)
        if not written.engines and not rehearsal:      # as an earlier plan left it, in which nothing fitted
            turns = propose(name, facts, models, overrides, needs=needs).handovers
        return Planned(verdict, settings, written, None, sums, rehearsal=rehearsal, handover=turns)
    verdict = decide(facts, needs, capability.of_models(sorted_out(facts, models, catalog, overrides)[0]))
    wanted = verdict.kind in RENDERED
    if not (wanted or force or rehearsal):
        return Planned(verdict, settings)
    found = propose(name, facts, models, overrides, needs=needs)
    adapters.require(found.spec, facts, "the proposal")
    if found.spec.engines:
        verdict = decide(facts, needs, capability.of_spec(found.spec, facts, catalog))
    return Planned(
        verdict, settings, found.spec, found, found.proof, forced=force and not wanted and not rehearsal,
        rehearsal=rehearsal, handover=found.handovers,
    )  # fmt: skip


def _needs(overrides: Mapping[str, Any]) -> Needs:
    try:
        return Needs.model_validate(overrides.get("needs") or {})
    except ValueError as error:
        raise UsageError(f"needs: {error}", hint="correct the section `needs`") from None
