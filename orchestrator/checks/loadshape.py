"""How the requests of a level come: a closed loop of users, or an open loop on an absolute schedule. Pure."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Shape = Literal["closed", "constant", "poisson", "ramp", "replay"]
# The steps of a sweep; the articles' levels are among them.
STANDARD_USERS = (1, 2, 5, 10, 20, 50, 128)
# All users starting in the same instant would measure the client's own queue.
START_S = 0.02


@dataclass(frozen=True)
class Level:
    """One level of load.

    closed: `users` at once, each sending its next request when the last one ended; they begin spread over `ramp_s`.
    Open, where requests come whether or not earlier ones have ended: `requests` of them, constant or poisson at `rate`
    a second, ramp from `rate` to `rate_to`, or replay of captured traffic, at `rate` times its speed.
    """

    users: int
    requests: int
    shape: Shape = "closed"
    rate: float = 0.0
    rate_to: float = 0.0
    ramp_s: float = START_S
    repeats: int = 0        # 0: as often as the plan says

    @property
    def open(self) -> bool:
        return self.shape != "closed"

    @property
    def label(self) -> str:
        """What tells this level from every other of its test, such as `10 users` or `2.5/s poisson`."""
        if self.shape == "closed":
            return f"{self.users} users" if self.users != 1 else "1 user"
        if self.shape == "ramp":
            return f"{self.rate:g} to {self.rate_to:g}/s"
        if self.shape == "replay":
            return "replay" if self.rate == 1 else f"replay x{self.rate:g}"
        return f"{self.rate:g}/s" if self.shape == "constant" else f"{self.rate:g}/s poisson"

    def due_ns(self, seed: int, captured: Sequence[float] = ()) -> array[int]:
        """When each request of an open level is due, in ns since the level's start; never falls.

        `captured`: the instants of a replay, in seconds since its first request.
        """
        if self.shape == "replay":
            return array("q", (int(at / (self.rate or 1.0) * 1e9) for at in captured))
        if self.shape == "poisson":
            return _poisson(self.requests, self.rate, seed)
        if self.shape == "ramp":
            return array("q", (int(_ramp_at(n, self.rate, self.rate_to, self.requests) * 1e9)
                               for n in range(self.requests)))  # fmt: skip
        return array("q", (round(n / self.rate * 1e9) for n in range(self.requests)))


def open_level(shape: Shape, rate: float, duration_s: float, rate_to: float = 0.0) -> Level:
    """The open level that lasts `duration_s`; at least one request. ValueError for a rate or duration of nothing."""
    if not (rate > 0 and duration_s > 0 and (shape != "ramp" or rate_to > 0)):
        raise ValueError("an open level needs a rate and a duration above 0")
    mean = (rate + rate_to) / 2 if shape == "ramp" else rate
    return Level(0, max(1, round(mean * duration_s)), shape, rate, rate_to)


def _poisson(count: int, rate: float, seed: int) -> array[int]:
    rng, at, due = random.Random(f"{seed}/{rate}"), 0.0, array("q")  # noqa: S311 - a schedule, not a secret
    for _ in range(count):
        at += rng.expovariate(rate)
        due.append(int(at * 1e9))
    return due


def _ramp_at(number: int, first: float, last: float, count: int) -> float:
    """The instant (s) at which `number` requests have come, while the rate moves evenly from `first` to `last`."""
    duration = count / ((first + last) / 2)
    slope = (last - first) / duration
    if abs(slope) * duration < 1e-9 * first:
        return number / first
    return (-first + math.sqrt(max(0.0, first * first + 2 * slope * number))) / slope
