"""The repositories that a plan may name: what has to be looked at on the Hub before anything is decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.decide.catalog import Catalog
from orchestrator.decide.effective import effective
from orchestrator.decide.mapping import Mapping as Mapped
from orchestrator.decide.shared import map_models
from orchestrator.decide.verdict import decide
from orchestrator.decide.vllm_named import drafts
from orchestrator.facts import Facts
from orchestrator.names import canonical, slug
from orchestrator.spec import Spec
from orchestrator.spec_needs import Needs

MOST = 64       # repositories; a plan of more models asks of the first ones


def candidates(
    facts: Facts,
    catalog: Catalog,
    written: Spec | None = None,
    overrides: Mapping[str, Any] | None = None,
    models: tuple[str, ...] | None = None,
) -> tuple[str, ...]:
    """Return repositories in the order in which an answer helps: of a written spec its own, else what mapping finds.

    Per model its repository comes first, then other names and quantised alternatives; `models`: only these.
    """
    if written is not None:
        engines = [effective(one) for one in written.engines.values()]
        named = [*(one.repo for one in engines), *drafts(one.vllm.speculative for one in engines)]
        return tuple(dict.fromkeys(named))[:MOST]
    wanted = None if models is None else {canonical(one) for one in models}
    laid = {one.name: repo for one in facts.ollama.models if (repo := given(one.name, overrides or {}))}
    mapped = [one for one in map_models(facts.ollama.models, catalog, laid).values() if one.repo]
    # Embedding models stay unless they are asked for by name.
    found = [one for one in mapped if (canonical(one.model) in wanted if wanted else one.kind != "embedding")]
    first = [one.repo for one in found if one.repo]
    first += drafts(_mapping(_mapping(one).get("vllm")).get("speculative")
                    for one in _mapping((overrides or {}).get("engines")).values())  # fmt: skip
    return tuple(dict.fromkeys([*first, *(repo for one in found for repo in _others(one, catalog))]))[:MOST]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def renders(facts: Facts, overrides: Mapping[str, Any]) -> bool:
    """Whether a first plan of these facts names repositories at all: not where the verdict is to stay."""
    try:
        needs = Needs.model_validate(overrides.get("needs") or {})
    except ValueError:      # the plan itself will say so
        return False
    return overrides.get("accelerator") == "cpu" or decide(facts, needs).kind in ("consider", "migrate")


def given(model: str, overrides: Mapping[str, Any]) -> str | None:
    """Return the repository that the overrides name for a model: of its route's engine, or of its name's."""
    engines, routes = overrides.get("engines") or {}, overrides.get("routes") or {}
    engine = (routes.get(model) or {}).get("engine") or slug(model)
    repo = (engines.get(engine) or {}).get("repo")
    return repo if isinstance(repo, str) else None


def _others(mapping: Mapped, catalog: Catalog) -> list[str]:
    known = catalog.by_repo(mapping.repo or "")
    if mapping.confidence == "given":
        return []
    return [*(known[0].aliases if known else ()), *(repo for repo, _ in mapping.quantized)]
