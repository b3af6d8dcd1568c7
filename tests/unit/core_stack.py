"""Specs, journals and fakes that several of the unit tests start from."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

from orchestrator.events import Happening
from orchestrator.journal import Journal
from orchestrator.spec import Spec, parse_spec
from orchestrator.state import Event

MODEL = "llama3.1:8b"
BASE: dict[str, Any] = {
    "name": "demo",
    "accelerator": "cpu",
    "ollama": {"container": "ollama"},
    "engines": {"llama": {"repo": "meta-llama/Llama-3.1-8B-Instruct"}},
    "routes": {MODEL: {"engine": "llama"}},
}
PROVEN = (Event.READY, Event.HEALTH_PASSED, Event.PARITY_PASSED, Event.LOAD_PASSED)


def raw(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(BASE), **changes}


def spec(**changes: Any) -> Spec:
    return parse_spec(yaml.safe_dump(raw(**changes)))


def open_journal(folder: Path, of: Spec) -> Journal:
    journal = Journal(folder)
    journal.known({model: route.engine is not None for model, route in of.routes.items()}, tuple(of.engines))
    return journal


def prove(journal: Journal, *models: str) -> None:
    for model in models:
        for event in PROVEN:
            journal.move("route", model, event)


class Ears:
    """Listens to events."""

    def __init__(self) -> None:
        self.heard: list[Happening] = []

    def __call__(self, event: Happening) -> None:
        self.heard.append(event)

    def kinds(self) -> list[str]:
        return [str(event.kind) for event in self.heard]
