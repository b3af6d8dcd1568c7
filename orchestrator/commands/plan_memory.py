"""The section of the plan on memory: who gets how much of which GPU and of the host, and why."""

from __future__ import annotations

from orchestrator.decide.budget import Proof
from orchestrator.decide.catalog import load
from orchestrator.decide.chosen import chosen_lines
from orchestrator.decide.hostmemory import host_budget, wish
from orchestrator.decide.planning import Planned
from orchestrator.facts import Facts
from orchestrator.spec import Spec


def memory_lines(planned: Planned, facts: Facts) -> list[str]:
    """Return inequality and bar of each GPU, each engine's values with their reasons, the host, and notes."""
    sums = planned.sums
    if sums is None:
        return []
    spec, proposal = planned.spec, planned.proposal
    assert spec is not None
    why = chosen_lines(spec, facts, load(), sums, proposed=proposal is not None)
    # What the lines above say of an engine needs no note.
    said = [note for note in (proposal.notes if proposal else ())
            if not (why and note.startswith(("context ", "max_num_seqs ")))]  # fmt: skip
    return [*sums.report().splitlines(), *why, *_host(sums, facts, spec), *(f"note: {note}" for note in said)]


def _host(sums: Proof, facts: Facts, spec: Spec) -> list[str]:
    asks = {share.ask.name: share.ask for budget in sums.budgets for share in budget.shares}
    if not asks:
        return []
    engines = [(ask, spec.engines[ask.name]) for ask in asks.values()]
    wishes = [wish(ask, [*one.extra_args, *one.vllm.args]) for ask, one in engines for _ in range(one.replicas)]
    found = host_budget(facts.host, tuple(wishes))
    return [str(found), *(f"does not fit: {one}" for one in found.problems), *found.warnings]
