"""How many requests were there at once: a sweep over half-open intervals [end - latency, end)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


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
    level = peak = first = last = 0
    before = starts[0] if starts else 0.0
    total = len(starts)
    while last < total:
        # At the same moment an end comes first: the intervals are half open.
        opening = first < total and starts[first] < ends[last]
        now = starts[first] if opening else ends[last]
        if now > before:
            if level > 0:
                at[level] = at.get(level, 0.0) + now - before
                _peaks(by_hour, before, now, level)
                peak = max(peak, level)
            before = now
        if opening:
            level += 1
            first += 1
        else:
            level -= 1
            last += 1
    return Overlap(peak, at, by_hour)


def _peaks(by_hour: dict[int, int], begin: float, end: float, level: int) -> None:
    hour, stop = int(begin // 3600), -int(-end // 3600)     # half open: what ends on the hour is not in it
    if stop - hour == 1:        # nearly always
        if by_hour.get(hour % 24, 0) < level:
            by_hour[hour % 24] = level
        return
    for one in range(hour, min(stop, hour + 24)):
        if by_hour.get(one % 24, 0) < level:
            by_hour[one % 24] = level
