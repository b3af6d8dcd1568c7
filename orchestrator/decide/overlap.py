"""How many requests were there at once: a sweep over half-open intervals [end - latency, end)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True)
class Overlap:
    """`at`: level -> seconds spent at it, level 0 left out; `by_hour`: UTC hour of the day -> peak in it."""

    peak: int
    at: dict[int, float]
    by_hour: dict[int, int]

    def percentile(self, share: float) -> int | None:
        """Return the level that was not exceeded in `share` of the busy time; None when it was never busy."""
        busy = sum(self.at.values())
        if not busy:
            return None
        passed = 0.0
        for level in sorted(self.at):
            passed += self.at[level]
            if passed >= share * busy - 1e-9:
                return level
        return max(self.at)

    def above(self, level: int) -> float:
        """Return the seconds with more than `level` requests at once."""
        return sum(seconds for one, seconds in self.at.items() if one > level)

    def waiting(self, slots: int) -> float:
        """Return the request-seconds beyond what is answered at once: each of them waits in the queue."""
        return sum((level - slots) * seconds for level, seconds in self.at.items() if level > slots)


def sweep(starts: Sequence[float], ends: Sequence[float]) -> Overlap:
    """Return the overlap of requests; a request of no length counts at no moment. Sorts copies: O(n log n)."""
    starts, ends = sorted(starts), sorted(ends)
    at: dict[int, float] = {}
    by_hour: dict[int, int] = {}
    level = first = 0
    before = starts[0] if starts else 0.0
    total = len(starts)
    hour, top = before // 3600 * 3600 + 3600, 0     # when the hour of the day ends, and its peak so far
    opening = starts[0] if starts else inf
    for closing in ends:
        # At the same moment an end comes first: the intervals are half open.
        while opening < closing:
            if opening > before:
                if level > top or (opening > hour and level):
                    hour, top = _peaks(by_hour, before, opening, level)
                if level:
                    at[level] = at.get(level, 0.0) + opening - before
                before = opening
            level += 1
            first += 1
            opening = starts[first] if first < total else inf
        if closing > before:
            if level > top or (closing > hour and level):
                hour, top = _peaks(by_hour, before, closing, level)
            if level > 0:
                at[level] = at.get(level, 0.0) + closing - before
            before = closing
        level -= 1
    return Overlap(max(at, default=0), at, by_hour)


def _peaks(by_hour: dict[int, int], begin: float, end: float, level: int) -> tuple[float, int]:
    """Note the level in every hour of [begin, end); returns when the last one ends, and its peak."""
    hour, stop = int(begin // 3600), -int(-end // 3600)     # half open: what ends on the hour is not in it
    for one in range(max(hour, stop - 24), stop):
        if by_hour.get(one % 24, 0) < level:
            by_hour[one % 24] = level
    return stop * 3600.0, by_hour.get((stop - 1) % 24, 0)
