"""What a load test does, as data: written by the parent, read by the load process."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from orchestrator.checks import Side, SideName
from orchestrator.checks.loadlengths import Lengths, words
from orchestrator.checks.loadshape import Level

# The level that judges needs a p95, and below 59 samples there is none worth the name.
JUDGING_N = 60
# Enough for a median with an interval.
_SHOWING_N = 10
PROMPTS = (
    "Explain in a few sentences how a bicycle stays upright.",
    "Write a short letter to a neighbour about a party on Saturday.",
    "List the steps for baking bread and say why each one matters.",
    "Describe a walk through an old harbour at dusk.",
    "What should one look for when buying a used car?",
    "Tell a short story about a lighthouse keeper and a gull.",
    "Compare trains and buses for a city of half a million people.",
    "How does a hash table work, and when is it slow?",
)


@dataclass(frozen=True)
class Run:
    """One level on one side; repeats alternate the order of the sides."""

    side: SideName
    level: Level
    repeat: int


@dataclass(frozen=True)
class Captured:
    """A file of captured requests to play again, and the digest of the content that was meant."""

    path: str
    digest: str
    count: int


@dataclass(frozen=True)
class LoadPlan:
    """What is asked, how often, and how far it may go.

    `timeout_s` bounds one request, `level_s` the time in which a level may still begin requests, `budget_s` and
    `most_requests` the whole test (0: unbounded). `max_in_flight`: an open loop sends no more at once; what it could
    not send is counted and spoils the level. `unique`: every prompt has a beginning of its own, which defeats the
    prefix caches. `slo`: {ttft, tpot, e2e, itl_max} in ms, for goodput. `replicas`: names of the engine's replicas,
    whose metrics are read apart. `poll_s`: how often vLLM's metrics are read (0: never). `give_up`: a side that
    answered nothing at one level is not asked at the next. `shards`: processes of a level, 0: as many as it needs;
    `shard` and `only` are for those further processes: which of how many, and the repeat that all of them do.
    """

    sides: tuple[Side, ...]
    model: str
    levels: tuple[Level, ...]
    max_tokens: int = 64
    temperature: float = 0.0
    timeout_s: float = 120.0
    level_s: float = 300.0
    warmup: int = 2
    repeats: int = 1
    seed: int = 1
    prompts: tuple[str, ...] = PROMPTS
    unique: bool = True
    lengths: Lengths | None = None
    slo: dict[str, float] | None = None
    captured: Captured | None = None
    max_in_flight: int = 2000
    budget_s: float = 0.0
    most_requests: int = 0
    replicas: tuple[str, ...] = ()
    poll_s: float = 1.0
    give_up: bool = False
    shards: int = 0
    shard: tuple[int, int] = (0, 1)
    only: int | None = None
    preset: str = ""

    def runs(self) -> Iterator[Run]:
        """A B, B A, A B ...: drift of the machine hits both sides alike."""
        if self.only is not None:
            yield from (Run(side.name, level, self.only) for side in self.sides for level in self.levels)
            return
        turn = 0
        for level in self.levels:
            for repeat in range(level.repeats or self.repeats):
                sides = self.sides if turn % 2 == 0 else self.sides[::-1]
                yield from (Run(side.name, level, repeat) for side in sides)
                turn += 1

    def mark(self, key: str) -> str:
        """What the prompt of this key begins with, in brackets: 16 hexadecimal digits of its own."""
        return self._digest(key).hexdigest()

    def _digest(self, key: str) -> hashlib.blake2b:
        return hashlib.blake2b(f"{self.seed}/{key}".encode(), digest_size=8)

    def body(self, key: str) -> bytes:
        """The request of this key, the same on every side."""
        digest = self._digest(key)
        prompt, most = self.prompts[int.from_bytes(digest.digest()) % len(self.prompts)], self.max_tokens
        if self.lengths:
            rng = random.Random(digest.digest())  # noqa: S311 - lengths, not secrets
            long, answer = self.lengths.draw(rng)
            prompt, most = words(rng, long) if long else prompt, answer or most
        mark = f"[{digest.hexdigest()}] " if self.unique else ""
        request = {
            "model": self.model,
            "messages": [{"role": "user", "content": mark + prompt}],
            "max_tokens": most,
            "temperature": self.temperature,
            "seed": self.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return json.dumps(request).encode()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def shown(self) -> dict[str, Any]:
        """The plan as it is kept: without what opens a door."""
        data = self.to_json()
        return {**data, "sides": [{**side, "headers": {}} for side in data["sides"]]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LoadPlan:
        """Read `to_json` back; what this version does not know is left out."""
        known = {field.name for field in fields(cls)}
        made: dict[str, Any] = {name: value for name, value in data.items() if name in known}
        made["sides"] = tuple(Side(**side) for side in data["sides"])
        made["levels"] = tuple(Level(**level) for level in data["levels"])
        for name in ("prompts", "replicas", "shard"):
            if name in made:
                made[name] = tuple(made[name])
        if made.get("lengths"):
            made["lengths"] = Lengths.from_json(made["lengths"])
        if made.get("captured"):
            made["captured"] = Captured(**made["captured"])
        return cls(**made)


def closed_levels(users: Sequence[int] = (1, 5, 10), requests_per_user: int = 4) -> tuple[Level, ...]:
    """Levels in rising order, each with enough requests for its figures; the highest, which judges, has more."""
    rising = sorted(set(users))
    counts = [max(n * requests_per_user, _SHOWING_N) for n in rising]
    counts[-1] = max(counts[-1], JUDGING_N)
    return tuple(Level(n, count) for n, count in zip(rising, counts, strict=True))
