"""What the guard does about what it sees: pure, and only ever downwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
    """Keep requests from a replica for so many seconds; 0 lets it come back."""

    replica: str
    seconds: float
    cause: str


Action = Lower | Release | TakeOut

# Longer than two slow rounds, so that a replica stays out while the guard lives, and comes back if it does not.
OUT_S = 120.0


@dataclass(frozen=True)
class Health:
    """Probes of an engine that failed in a row, what the last one said, and whether any was ever answered."""

    failures: int = 0
    reason: str = ""
    answered: bool = False

    def after(self, reason: str | None, *, starting: bool = False) -> Health:
        """Return the health after one more probe; None means that it was answered.

        An engine that is starting is no failure: nobody listens there yet, so every request goes to Ollama.
        """
        if reason is None:
            return Health(answered=True)
        return Health(self.failures + (not starting), reason, self.answered)


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

    One replica of several that fails is taken out instead: the others have room for what it had.

    `now` and the lease's `expires` are epoch seconds. No weight that is returned is above the current one.
    """
    weights = weights_of(status)
    actions: list[Action] = []
    replicas: list[Action] = []
    for engine in engines:
        seen = [health.get(target, Health()) for target in engine.targets]
        down = {route: 0.0 for route in engine.routes if weights.get(route, 0.0) > 0}
        if down and all(one.failures >= threshold for one in seen):
            best = min(seen, key=lambda one: one.failures)
            where = f" on each of {len(seen)} replicas" if engine.replicas else ""
            actions.append(Lower(down, f"{best.failures} probes failed{where}: {best.reason}", engine.name))
            weights |= down
        elif down:
            replicas += _replicas(engine, status, health, threshold)
    return actions + _expired(status.get("lease"), weights, now) + replicas


def _replicas(engine: Engine, status: JSON, health: Mapping[str, Health], threshold: int) -> list[Action]:
    """Take out the replicas that failed too often, again before their time is up; let those back that answer."""
    known = (status.get("replicas") or {}).get(engine.name) or {}
    actions: list[Action] = []
    for replica in engine.replicas:
        now, seen = known.get(replica) or {}, health.get(replica, Health())
        left = float(now.get("out") or 0) if now.get("by") == "guard" else 0.0
        if seen.failures >= threshold and left < OUT_S / 2:
            actions.append(TakeOut(replica, OUT_S, f"{seen.failures} probes failed: {seen.reason}"))
        elif seen.answered and not seen.failures and left:
            actions.append(TakeOut(replica, 0.0, "it answers"))
    return actions


def _expired(lease: JSON | None, weights: dict[str, float], now: float) -> list[Action]:
    if not lease or float(lease["expires"]) > now:
        return []
    owner = str(lease.get("owner", ""))
    fallback = {route: float(weight) for route, weight in (lease.get("fallback") or {}).items()}
    down = {route: weight for route, weight in fallback.items() if weight < weights.get(route, 0.0)}
    lower: list[Action] = [Lower(down, f"lease of {owner} has expired")] if down else []
    return [*lower, Release(owner)]
