"""Taking turns for a stack file that somebody wrote: it does not fit as a whole, but each side would alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from orchestrator.decide.budget import Proof, Running, proof
from orchestrator.decide.catalog import Catalog
from orchestrator.decide.handover import Handover, Rest, told
from orchestrator.decide.mapping import Mapping
from orchestrator.decide.placement import Placed
from orchestrator.facts import Facts
from orchestrator.spec import Spec


def handovers(
    spec: Spec, facts: Facts, catalog: Catalog, sums: Proof, running: Iterable[Running] = ()
) -> tuple[Handover, ...]:
    """Return the engines that would fit where they are with Ollama unloaded; none where that does not mend it all."""
    full = {one.gpu for one in sums.budgets if one.problem and one.ollama and one.shares}
    if not full or spec.accelerator == "cpu":
        return ()
    without = spec.model_copy(update={"ollama": spec.ollama.model_copy(update={"pinned": ()})})
    alone = proof(without, facts, catalog, running)
    ollama = {one.gpu: replace(one, shares=()) for one in sums.budgets if one.ollama}
    if alone.problems or any(one.problem for one in ollama.values()):
        return ()
    found = []
    for name, engine in spec.engines.items():
        mine = [one for one in alone.budgets for share in one.shares if share.ask.name == name]
        if not full & {one.gpu for one in mine}:
            continue
        share = next(one for one in mine[0].shares if one.ask.name == name)
        model = next((model for model, route in spec.routes.items() if route.engine == name), name)
        gpus = tuple(one.gpu for one in mine)
        one = Placed(Mapping(model, engine.repo, "given"), engine.repo, share, gpus, (), engine.quantization or "",
                     engine.replicas)  # fmt: skip
        each = max(budget.ollama for budget in ollama.values())
        rest = Rest(tuple(map(str, ollama.values())), tuple(ollama), each, each)
        found.append(told(one, engine.max_model_len, tuple(map(str, mine)), rest, facts, spec.needs))
    return tuple(found)
