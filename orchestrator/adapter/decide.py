"""What the guard does about what it sees: pure, and only ever downwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from orchestrator.adapter.wire import JSON


@dataclass(frozen=True)
class Engine:
    """An engine as the guard knows it."""

    name: str
    model: str
    routes: tuple[str, ...]
    kind: str = "generate"
    start_s: float = 0.0  # how long it may take to start
    replicas: tuple[str, ...] = ()  # of an engine that has several
    urls: Mapping[str, str] = field(default_factory=dict)   # of each target, where its signs of life are asked for
    step_tokens: int = 16384    # the most that one step of it reads

    @property
    def targets(self) -> tuple[str, ...]:
        """What is probed: each replica, or the engine itself."""
        return self.replicas or (self.name,)


@dataclass(frozen=True)
class Lower:
    """Set these routes to these weights, because of this."""

    weights: Mapping[str, float]
    cause: str
    engine: str | None = None


@dataclass(frozen=True)
class Release:
    """Release the lease that has expired."""

    owner: str


@dataclass(frozen=True)
class TakeOut:
    """Keep requests from a replica, or from an engine that has none, for so many seconds; 0 lets it come back."""

    replica: str
    seconds: float
    cause: str


Action = Lower | Release | TakeOut

# Longer than two slow rounds, so that a replica stays out while the guard lives, and comes back if it does not.
OUT_S = 120.0


@dataclass(frozen=True)
class Health:
    """Probes of an engine that failed in a row, what the last one said, and whether any was ever answered.

    `silent`: it gave no sign of life, and no probe has been answered since.
    """

    failures: int = 0
    reason: str = ""
    answered: bool = False
    silent: bool = False

    def after(self, reason: str | None, *, starting: bool = False) -> Health:
        """Return the health after one more probe; None means that it was answered.

        An engine that is starting is no failure: nobody listens there yet, so every request goes to Ollama.
        """
        if reason is None:
            return Health(answered=True)
        return replace(self, failures=self.failures + (not starting), reason=reason)

    def gone_silent(self, reason: str) -> Health:
        """Return the health of one that says nothing any more: only a token proves the contrary."""
        return replace(self, reason=reason, silent=True)


def in_use(engine: Engine, status: JSON) -> bool:
    """Tell whether any route of an engine has traffic."""
    weights = weights_of(status)
    return any(weights.get(route, 0.0) > 0 for route in engine.routes)


def weights_of(status: JSON) -> dict[str, float]:
    """Return the weights of a gateway's status."""
    return {route: float(weight) for route, weight in (status.get("weights") or {}).items()}


def decide(
    status: JSON, engines: tuple[Engine, ...], health: Mapping[str, Health], threshold: int, now: float
) -> list[Action]:
    """Return what to do: routes of engines that failed too often go to 0, an expired lease falls back.

    One replica of several that fails is taken out instead: the others have room for what it had. So is an engine
    that says nothing, until a token comes: that costs nothing when it was wrong, while a weight stays low until
    somebody raises it. An engine of embeddings is only ever taken out: vectors of two engines do not mix.

    `now` and the lease's `expires` are epoch seconds. No weight that is returned is above the current one.
    """
    weights = weights_of(status)
    actions: list[Action] = []
    out: list[Action] = []
    for engine in engines:
        seen = [health.get(target, Health()) for target in engine.targets]
        down = {route: 0.0 for route in engine.routes if weights.get(route, 0.0) > 0}
        if down and engine.kind != "embedding" and all(one.failures >= threshold for one in seen):
            best = min(seen, key=lambda one: one.failures)
            where = f" on each of {len(seen)} replicas" if engine.replicas else ""
            actions.append(Lower(down, f"{best.failures} probes failed{where}: {best.reason}", engine.name))
            weights |= down
        elif down:
            out += circuits(engine, status, health, threshold)
    return actions + _expired(status.get("lease"), weights, now) + out


def circuits(engine: Engine, status: JSON, health: Mapping[str, Health], threshold: int) -> list[Action]:
    """Take out those that failed too often or are silent, again before their time is up; let back those that answer."""
    known = (status.get("replicas") or {}).get(engine.name) if engine.replicas else status.get("circuits")
    actions: list[Action] = []
    for target in engine.targets:
        now, seen = (known or {}).get(target) or {}, health.get(target, Health())
        left = float(now.get("out") or 0) if now.get("by") == "guard" else 0.0
        if seen.silent or seen.failures >= threshold:
            if left < OUT_S / 2:
                failed = f"{seen.failures} probes failed: " if seen.failures else ""
                actions.append(TakeOut(target, OUT_S, failed + seen.reason))
        elif seen.answered and not seen.failures and left:
            actions.append(TakeOut(target, 0.0, "it answers"))
    return actions


def _expired(lease: JSON | None, weights: dict[str, float], now: float) -> list[Action]:
    if not lease or float(lease["expires"]) > now:
        return []
    owner = str(lease.get("owner", ""))
    fallback = {route: float(weight) for route, weight in (lease.get("fallback") or {}).items()}
    down = {route: weight for route, weight in fallback.items() if weight < weights.get(route, 0.0)}
    lower: list[Action] = [Lower(down, f"lease of {owner} has expired")] if down else []
    return [*lower, Release(owner)]
