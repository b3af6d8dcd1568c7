"""Installed names that are the same weights: copies (`ollama cp`), and models made FROM another one."""

from __future__ import annotations

import re
from collections.abc import Mapping as MappingType
from dataclasses import replace

from orchestrator.decide.catalog import Catalog
from orchestrator.decide.confirm import confirmed
from orchestrator.decide.mapping import Mapping, map_model
from orchestrator.facts import HubFact, Model

_FROM = re.compile(r"^\s*FROM\s+\S*sha256[-:]([0-9a-f]{64})\s*$", re.MULTILINE | re.IGNORECASE)


def weights_of(model: Model) -> str:
    """Return what tells a model's weights apart: the blob that its Modelfile names, else its own digest."""
    blob = _FROM.search(str(model.details.get("modelfile") or ""))
    return blob[1].lower() if blob else model.digest.removeprefix("sha256:").lower()


def map_models(
    models: tuple[Model, ...], catalog: Catalog, given: MappingType[str, str] | None = None,
    hub: tuple[HubFact, ...] = (),
) -> dict[str, Mapping]:  # fmt: skip
    """Map every model; names that share weights get one repository, the best known one's. `given`: by name.

    `hub`: what was seen of repositories, which confirms, corrects or refuses.
    """
    given = given or {}
    found = {model.name: confirmed(map_model(model, catalog, given.get(model.name)), model, hub, catalog)
             for model in models}  # fmt: skip
    best: dict[str, str] = {}
    for model in models:
        key, mine = weights_of(model), found[model.name]
        if key and mine.repo and (key not in best or _rank(mine) < _rank(found[best[key]])):
            best[key] = model.name
    for model in models:
        twin = found.get(best.get(weights_of(model), ""))
        mine = found[model.name]
        if twin and twin.repo != mine.repo and mine.confidence != "given" and not _stays_for_good(model):
            why = (f"the same weights as {twin.model}", *twin.reasons)
            found[model.name] = replace(twin, model=model.name, reasons=why, confidence="likely")
    return found


def _rank(mapping: Mapping) -> int:
    order = ("given", "exact", "likely", "guess", "none")
    return order.index(mapping.confidence) if mapping.confidence in order else len(order)


def _stays_for_good(model: Model) -> bool:
    adapter = re.search(r"^\s*ADAPTER\s", str(model.details.get("modelfile") or ""), re.MULTILINE | re.IGNORECASE)
    return bool(model.remote_host or adapter or model.details.get("adapter"))
