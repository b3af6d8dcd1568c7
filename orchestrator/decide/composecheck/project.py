"""A whole Compose file as its checks see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.decide.composecheck.service import Service, build
from orchestrator.decide.composecheck.values import Map, Seq, copied, lay_over


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
    whole = copied(_extended(under, services, depth + 1))
    whole.line = body.line
    own = copied(body)
    del own["extends"]
    whole.pop("extends", None)
    lay_over(whole, own)
    return whole


def apart(one: Service, other: Service) -> bool:
    """Whether profiles keep two services from running together, unless somebody asks for both."""
    mine, theirs = profiles(one), profiles(other)
    return bool(mine) and bool(theirs) and not mine & theirs


def profiles(service: Service) -> set[str]:
    said = service.get("profiles")
    return {str(name) for name in said} if isinstance(said, Seq) else set()
