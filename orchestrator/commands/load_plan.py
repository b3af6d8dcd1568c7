"""From the flags of `migrate load` and the stack file to a load plan with its bounds."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.checks import Side, SideName
from orchestrator.checks import loadpreset as article
from orchestrator.checks import loadreplay as replay
from orchestrator.checks.loadlengths import lengths_of
from orchestrator.checks.loadplan import JUDGING_N, LoadPlan
from orchestrator.checks.loadshape import STANDARD_USERS, Level, Shape, open_level
from orchestrator.commands.session import Session
from orchestrator.errors import UsageError
from orchestrator.names import canonical
from orchestrator.spec_types import seconds
from orchestrator.steps import door

PRESETS = (article.NAME,)
_SIDES: dict[str, tuple[SideName, ...]] = {"ollama": ("ollama",), "vllm": ("vllm",), "both": ("ollama", "vllm")}
_LEVEL_S = 60.0
_MOST_REQUESTS = 10_000
_MOST_USERS = 10_000
_MOST_AT_ALL = 1_000_000


@dataclass(frozen=True, slots=True)
class Asked:
    """The flags, as typed."""

    model: str | None = None
    side: str | None = None
    users: str | None = None
    rate: str | None = None
    poisson: bool = False
    preset: str | None = None
    duration: str | None = None
    requests: int | None = None
    replay: str | None = None
    speed: float = 1.0
    out: str | None = None
    live_factor: float | None = None
    budget: str | None = None
    most: int | None = None


def plan_of(session: Session, asked: Asked, sides: tuple[Side, ...]) -> LoadPlan:
    """Return the whole plan; UsageError names everything that is wrong with the flags."""
    load, traffic = session.spec.load, session.context.facts.traffic if session.context.facts else None
    model = model_of(session, asked)
    engine = session.spec.routes[model].engine
    requests, captured = replay.read(Path(asked.replay)) if asked.replay else ([], None)
    duration = _duration(asked.duration, "--duration") or _LEVEL_S
    levels = levels_of(asked, duration, captured.count if captured else 0)
    replicas = session.spec.replicas(engine) if engine else ()
    settings: dict[str, Any] = {
        "max_tokens": load.max_tokens, "timeout_s": load.timeout, "lengths": lengths_of(load, traffic),
        "unique": load.unique_prompts, "slo": load.slo.in_ms() if load.slo else None,
        "level_s": duration if not asked.replay else 24 * 3600.0,
        "replicas": tuple(replicas) if len(replicas) > 1 else (),
    }  # fmt: skip
    settings |= article.SETTINGS if asked.preset else {}
    plan = LoadPlan(sides, model, levels, captured=captured, give_up=True, **settings)
    # An open level is never cut by the clock that measures it.
    plan = dataclasses.replace(plan, level_s=plan.level_s + 1 if any(level.open for level in levels) else plan.level_s)
    played_s = requests[-1].at / asked.speed if requests else 0.0
    budget = _duration(asked.budget, "--budget") or longest_s(plan, played_s)
    return dataclasses.replace(plan, budget_s=budget, most_requests=asked.most or _MOST_REQUESTS)


def levels_of(asked: Asked, duration: float, captured: int) -> tuple[Level, ...]:
    """Return the levels that the flags ask for; one kind at a time."""
    kinds = [name for name, value in (("--users", asked.users), ("--rate", asked.rate), ("--preset", asked.preset),
                                      ("--replay", asked.replay)) if value]  # fmt: skip
    if len(kinds) > 1:
        raise UsageError(f"{' and '.join(kinds)} say different things", hint="give one of them")
    if asked.preset:
        if asked.preset not in PRESETS:
            raise UsageError(f"there is no preset {asked.preset!r}", hint=f"known: {', '.join(PRESETS)}")
        return article.LEVELS
    if asked.replay:
        if not 0 < asked.speed <= 1000:
            raise UsageError("--speed should be above 0 and at most 1000", hint="2 plays it twice as fast")
        return (Level(0, captured, "replay", asked.speed),)
    if asked.rate:
        return tuple(_rate(one, asked, duration) for one in asked.rate.split(","))
    users = _users(asked.users) if asked.users else STANDARD_USERS
    return tuple(Level(n, asked.requests or max(4 * n, JUDGING_N)) for n in users)


def _users(said: str) -> list[int]:
    words = said.replace(" ", "").split(",")
    if not all(re.fullmatch(r"[0-9]{1,5}", word) and 1 <= int(word) <= _MOST_USERS for word in words):
        raise UsageError(f"--users {said!r}: should be whole numbers from 1 to {_MOST_USERS}", hint="such as 1,5,10")
    return sorted({int(word) for word in words})


def _rate(said: str, asked: Asked, duration: float) -> Level:
    """One of `2`, `0.5`, or `1-10`: a ramp."""
    found = re.fullmatch(r"\s*([0-9.]+)(?:-([0-9.]+))?\s*", said)
    shape: Shape = "ramp" if found and found[2] else "poisson" if asked.poisson else "constant"
    try:
        first, last = (float(one or 0) for one in found.groups()) if found else (0.0, 0.0)
        level = open_level(shape, first, duration, last)
    except ValueError:
        raise UsageError(f"--rate {said!r}: should be requests a second above 0, or a ramp",
                         hint="such as 2 or 0.5,1,2 or 1-10") from None  # fmt: skip
    if level.requests > _MOST_AT_ALL:
        raise UsageError(f"--rate {said} for {duration:g} s are {level.requests:,} requests",
                         hint=f"at most {_MOST_AT_ALL:,}: a lower rate, or a shorter --duration")  # fmt: skip
    return level


def _duration(said: str | None, flag: str) -> float | None:
    if said is None:
        return None
    try:
        value = float(seconds(said))
    except ValueError:
        value = 0.0
    if not 0 < value <= 24 * 3600:
        raise UsageError(f"{flag} {said!r}: should be a duration such as 30s or 5m", hint="up to 24h") from None
    return value


def model_of(session: Session, asked: Asked) -> str:
    """Return the route that is meant."""
    routes = [name for name, route in session.spec.routes.items() if route.kind == "generate"]
    if asked.model is not None:
        named = next((name for name in routes if canonical(name) == canonical(asked.model)), None)
        if named is None:
            raise UsageError(f"there is no route for {asked.model} that generates", hint=f"known: {', '.join(routes)}")
        return named
    migrating = [name for name in routes if session.spec.routes[name].engine] or routes
    if len(migrating) != 1:
        known = ", ".join(migrating) or "there is none"
        raise UsageError(f"which model? {known}", hint="name it: migrate load MODEL")
    return migrating[0]


def sides_of(session: Session, asked: Asked, *, through: bool) -> tuple[Side, ...]:
    """Return where each side is reached: the door of checks, or Ollama itself while there is no gateway."""
    model = model_of(session, asked)
    engine = session.spec.routes[model].engine
    wanted = asked.side or ("both" if engine and through else "ollama")
    if wanted not in _SIDES:
        raise UsageError(f"there is no side {wanted!r}", hint=f"one of {', '.join(_SIDES)}")
    if "vllm" in _SIDES[wanted] and not engine:
        raise UsageError(f"{model} stays on Ollama: no engine serves it", hint="test that side: --side ollama")
    if "vllm" in _SIDES[wanted] and not through:
        raise UsageError("vLLM is reached through the gateway, which does not run", hint="run: migrate up")
    return tuple(
        Side(name, *door(session.context, name, engine if name == "vllm" else None)) if through
        else Side(name, session.spec.ollama.url.rstrip("/"))
        for name in _SIDES[wanted]
    )  # fmt: skip


def longest_s(plan: LoadPlan, played_s: float = 0.0) -> float:
    """Return the longest that the levels may take, seconds: each ends with the patience of its last request."""
    each = plan.level_s if not plan.captured else played_s
    return len(plan.levels) * len(plan.sides) * (each + plan.timeout_s)


def worst_case(plan: LoadPlan) -> str:
    """Return what the test may do at most, in words."""
    total = min(plan.most_requests, sum(level.requests for level in plan.levels) * len(plan.sides))
    names = ", ".join(level.label for level in plan.levels)
    at_once = max((level.users for level in plan.levels), default=0)
    loop = f"{at_once} at once" if at_once else f"up to {plan.max_in_flight} at once"
    return (f"load on {' and '.join(side.name for side in plan.sides)}: {names}; at most {total} requests, {loop}, "
            f"{plan.budget_s / 60:.0f} min")  # fmt: skip
