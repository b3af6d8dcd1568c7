"""A whole Compose file as its checks see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.decide.composecheck.document import Map
from orchestrator.decide.composecheck.service import Service, build


@dataclass(frozen=True, slots=True)
class Card:
    """The GPU that the file is meant for: bytes, compute capability (0: not said), how many of it (0: not said)."""

    total: int
    capability: float = 0.0
    count: int = 0


@dataclass(frozen=True, slots=True)
class Project:
    raw: Map
    services: tuple[Service, ...]
    card: Card | None = None

    def of(self, kind: str) -> list[Service]:
        return [one for one in self.services if one.kind == kind]

    def named(self, name: str) -> Service | None:
        return next((one for one in self.services if name in (one.name, one.get("container_name"))), None)


def project(raw: Map, text: str, env: Mapping[str, str], card: Card | None) -> Project:
    """Return the services of a document, those that extend another of the same file laid over it."""
    services = raw.get("services")
    if not isinstance(services, Map):
        return Project(raw, (), card)
    found = [
        build(name, _extended(body, services, 0), services.at(name), env, text)
        for name, body in services.items()
        if isinstance(body, Map)
    ]
    return Project(raw, tuple(found), card)


def _extended(body: Map, services: Map, depth: int) -> Map:
    said = body.get("extends")
    base = (
        said if isinstance(said, str) else said.get("service") if isinstance(said, Map) and "file" not in said else None
    )
    under = services.get(base) if isinstance(base, str) else None
    if not isinstance(under, Map) or under is body or depth > 8:
        return body
    whole = Map()
    whole.line = body.line
    for layer in (_extended(under, services, depth + 1), body):
        for key, value in layer.items():
            if key != "extends":
                whole[key] = value
                whole.lines[key] = layer.at(key)
    return whole
