"""The adapter's configuration: which routes there are and what their Modelfiles say."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestrator.adapter.wire import JSON
from orchestrator.errors import UsageError


def canonical(name: str) -> str:
    """Return the one spelling of a model name: lower case, no default host or namespace, always a tag."""
    parts = name.strip().lower().rsplit("/", 2)     # [[scheme://]host/][namespace/]model
    if len(parts) == 3:
        host = parts[0].partition("://")[2] or parts[0]
        parts = parts[1:] if host == "registry.ollama.ai" else [host, *parts[1:]]
    if len(parts) == 2 and parts[0] == "library":
        parts = parts[1:]
    name, last = "/".join(parts), parts[-1]
    return name if ":" in last else f"{name}:latest"


_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"
_SPACE = r"(?:[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}/)?[A-Za-z0-9_][A-Za-z0-9_-]{0,79}/"
_NAME = re.compile(f"(?:{_SPACE})?{_PART}(:{_PART})?")


def valid(name: str) -> bool:
    """Tell whether Ollama takes a name for one: [host/][namespace/]model[:tag]."""
    return bool(_NAME.fullmatch(name.partition("://")[2] or name))


@dataclass(frozen=True)
class Route:
    """One Ollama name served by an engine, with the semantics of its Modelfile."""

    name: str
    engine: str
    url: str
    served: str
    names: tuple[str, ...] = ()
    digest: str = ""
    size: int = 0
    details: JSON = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()
    system: str | None = None
    messages: tuple[JSON, ...] = ()
    parameters: JSON = field(default_factory=dict)
    context_length: int = 0
    modified_at: str = ""
    show: JSON = field(default_factory=dict)
    replicas: dict[str, str] = field(default_factory=dict)  # of an engine that has several: name to URL

    def on(self, replica: str) -> Route:
        """Return the route with the URL of the replica that the gateway chose; any other name changes nothing."""
        url = self.replicas.get(replica)
        return replace(self, url=url) if url else self

    def can(self, capability: str) -> bool:
        """Tell whether the model has a capability; one whose list is unknown is trusted."""
        return not self.capabilities or capability in self.capabilities

    @property
    def embeds(self) -> bool:
        return "embedding" in self.capabilities

    @property
    def thinks(self) -> bool:
        return "thinking" in self.capabilities


@dataclass(frozen=True)
class Config:
    """All routes, found by canonical name or by one of their other names."""

    routes: dict[str, Route]
    version: str
    ollama: str
    aliases: dict[str, str]

    def find(self, asked: str, forced: str = "") -> Route | None:
        """Return the route of a model name; `forced` is the name the gateway has already resolved."""
        if forced in self.routes:
            return self.routes[forced]
        wanted = canonical(asked)
        return self.routes.get(wanted) or self.routes.get(self.aliases.get(asked.strip().lower(), ""))


def parse(data: JSON) -> Config:
    """Return the configuration; raises UsageError for anything that does not have the expected shape."""
    try:
        routes = {canonical(name): _route(canonical(name), entry) for name, entry in data["routes"].items()}
        aliases = {alias.lower(): route.name for route in routes.values() for alias in route.names}
        return Config(routes, str(data.get("version", "0.0.0")), str(data.get("ollama", "")), aliases)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UsageError(f"adapter configuration: {type(error).__name__}: {error}") from error


def _route(name: str, entry: JSON) -> Route:
    known: dict[str, Any] = {key: entry[key] for key in entry if key in Route.__dataclass_fields__}
    known["url"] = str(known["url"]).rstrip("/")
    for key in ("names", "capabilities", "messages"):
        known[key] = tuple(known.get(key) or ())
    for key in ("details", "parameters", "show"):
        known[key] = dict(known.get(key) or {})
    known["replicas"] = {one: str(url).rstrip("/") for one, url in dict(known.get("replicas") or {}).items()}
    length = known.get("context_length")
    known["context_length"] = length if isinstance(length, int) and length > 0 else 0
    return Route(**{**known, "name": name})


def load(path: Path) -> Config:
    """Read the configuration file; raises UsageError when it is missing or not valid."""
    try:
        return parse(json.loads(path.read_text()))
    except (OSError, json.JSONDecodeError) as error:
        raise UsageError(f"adapter configuration {path}: {error}") from error
