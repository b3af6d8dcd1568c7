"""What a load test does, as data: written by the parent, read by the load process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.checks import Side, SideName

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
class Level:
    """A closed loop: `users` at once, each sending its next request when the last one ended."""

    users: int
    requests: int


@dataclass(frozen=True)
class Run:
    """One level on one side; repeats alternate the order of the sides."""

    side: SideName
    level: Level
    repeat: int


@dataclass(frozen=True)
class LoadPlan:
    """`timeout_s` bounds one request, `level_s` the time in which a level may still begin requests."""

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

    def runs(self) -> Iterator[Run]:
        """A B, B A, A B ...: drift of the machine hits both sides alike."""
        turn = 0
        for level in self.levels:
            for repeat in range(self.repeats):
                sides = self.sides if turn % 2 == 0 else self.sides[::-1]
                yield from (Run(side.name, level, repeat) for side in sides)
                turn += 1

    def body(self, key: str) -> bytes:
        """A request of its own: the hash in front defeats the prefix caches of both sides."""
        digest = hashlib.blake2b(f"{self.seed}/{key}".encode(), digest_size=8)
        prompt = self.prompts[int.from_bytes(digest.digest()) % len(self.prompts)]
        request = {
            "model": self.model,
            "messages": [{"role": "user", "content": f"[{digest.hexdigest()}] {prompt}"}],
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return json.dumps(request).encode()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LoadPlan:
        sides = tuple(Side(**side) for side in data["sides"])
        levels = tuple(Level(**level) for level in data["levels"])
        return cls(**{**data, "sides": sides, "levels": levels, "prompts": tuple(data["prompts"])})


def closed_levels(users: Sequence[int] = (1, 5, 10), requests_per_user: int = 4) -> tuple[Level, ...]:
    """Levels in rising order, each with enough requests for its figures; the highest, which judges, has more."""
    rising = sorted(set(users))
    counts = [max(n * requests_per_user, _SHOWING_N) for n in rising]
    counts[-1] = max(counts[-1], JUDGING_N)
    return tuple(Level(n, count) for n, count in zip(rising, counts, strict=True))
