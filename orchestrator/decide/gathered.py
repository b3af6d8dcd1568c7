"""Gathers the requests of a log line by line in compact arrays: a log may have millions of lines.

The common forms of gin's line are taken apart without regular expressions; any other goes to accesslog.access,
which gives the same for the common ones too (a property test holds them together).
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import compress, islice
from operator import and_, lt

from orchestrator.decide import accesslog
from orchestrator.decide.accesslog import Access

TWICE = "in the log twice"
_SECONDS = {f"{one:02d} ": float(one) for one in range(100)}
_UNITS = {"ms": 1e-3, "µs": 1e-6}
_MOST_KEPT = 20_000         # entries of a cache
_MOST_KINDS = 50_000        # different requests; a scanner asks for any number of paths
OTHERS = "others"
_QUARTER = 900.0            # seconds: zones differ by whole ones
_SUMMER = (1800.0, 3600.0, 4 * 3600.0)  # seconds: the smallest and largest step back, and until when in the night
_STEP = 60.0                # seconds that a clock goes back before it is told

Kind = tuple[int, str, str, str]        # status, caller, method, path


@dataclass(frozen=True, slots=True)
class Requests:
    """What is left when requests that are there twice are counted once. `kinds`: of every request -> how many.

    `ends` and `latencies` (seconds) of inference requests only; `twice`: how many were left out.
    """

    ends: array[float]
    latencies: array[float]
    kinds: Counter[Kind]
    twice: int


@dataclass(slots=True)
class Gathered:
    """Lines, gathered file by file with `read`; `requests` sums them up."""

    lines: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    engine: accesslog.Engine = field(default_factory=accesslog.Engine)
    shifts: Counter[int] = field(default_factory=Counter)   # quarter hours: gin's clock less that of the prefix
    back: float = 0.0       # seconds: how far gin's own clock went back at most within a file
    summer: int = 0         # how often that was the end of summer time
    _ends: array[float] = field(default_factory=lambda: array("d"))
    _latencies: array[float] = field(default_factory=lambda: array("d"))
    _of: array[int] = field(default_factory=lambda: array("I"))         # index into _kinds
    _bare: array[int] = field(default_factory=lambda: array("I"))       # those with gin's own clock
    _files: list[int] = field(default_factory=list)                     # index of each file's first request
    _kinds: dict[Kind, int] = field(default_factory=dict)
    _raw: dict[tuple[str, str], int] = field(default_factory=dict)
    _minutes: dict[str, float] = field(default_factory=dict)
    _same: int = 0          # requests whose two clocks agree, until they are in `shifts`
    _before: float = 0.0    # gin's own clock in the line before
    _ahead: float = 0.0     # seconds to add to it after the end of summer time

    def read(self, lines: Iterable[str | bytes]) -> None:
        """Take the lines of one file; what cannot be read is counted, never raised."""
        self._files.append(len(self._ends))
        self._before = self._ahead = 0.0
        told, count = self.engine, 0
        for count, raw in enumerate(lines, 1):      # noqa: B007 - how many there were
            line = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
            if line[:1] == "{":
                line = accesslog.unpacked(line)
            at = line.find("[GIN")
            if at < 0:
                accesslog.engine(line, told)
            elif not self._quick(line, at) and not line.startswith("[GIN-", at):
                self._slow(line, at)
        self.lines += count
        if self._same:
            self.shifts[0] += self._same
            self._same = 0

    def requests(self) -> Requests:
        """Return the requests; call it once, when all files are read."""
        self._level()
        names = list(self._kinds)
        inference = [Access(0, 0, *kind).inference for kind in names]
        picked, of = bytes(map(inference.__getitem__, self._of)), self._of
        again = repeated(self._ends, self._latencies, self._of, self._files)
        if again:
            once = bytes(1 - one for one in again)
            picked, of = bytes(map(and_, picked, once)), array("I", compress(self._of, once))
        return Requests(
            array("d", compress(self._ends, picked)), array("d", compress(self._latencies, picked)),
            Counter({names[at]: count for at, count in Counter(of).items()}), sum(again),
        )  # fmt: skip

    @property
    def bare(self) -> int:
        """How many requests have gin's own clock alone: whole seconds, no zone."""
        return len(self._bare)

    @property
    def shift(self) -> float:
        """Seconds by which gin's clock is mostly ahead of the prefix's."""
        return max(self.shifts, key=lambda one: self.shifts[one]) * _QUARTER if self.shifts else 0.0

    def _quick(self, line: str, at: int) -> bool:
        """Take a line of the common form; False leaves it to the tolerant parser."""
        try:
            clock, status, took, tail = line[at + 6 :].split("|", 3)
            own = self._minutes[clock[:19]] + _SECONDS[clock[19:]]
            kind = self._raw[status, tail]
        except (KeyError, ValueError):
            return False
        took = took.strip()
        unit = _UNITS.get(took[-2:])
        text = took[:-1] if unit is None else took[:-2]
        whole, dot, part = text.partition(".")
        if whole.isdecimal() and (part.isdecimal() or not dot) and (unit or took[-1] == "s"):
            latency = float(text) * unit if unit else float(text)
        elif (found := accesslog.duration(took)) is not None:
            latency = found
        else:
            return False
        if latency > accesslog.LONGEST or line[at + 4 : at + 6] != "] ":
            return False
        self._add(own, self._stamp(line[:at]) if at else None, latency, kind)
        return True

    def _stamp(self, head: str) -> float | None:
        """Return the time in front of gin's; the form of docker is taken apart by its places."""
        if (head[19:20] == "." and head[-2:] == "Z " and head[20:-2].isdecimal() and len(head) <= 31
                and (minute := self._minutes.get(head[:17])) is not None):  # fmt: skip
            second = _SECONDS.get(head[17:19] + " ")
            if second is not None:
                return minute + second + float(head[19:-2])
        return accesslog.stamp(head)

    def _slow(self, line: str, at: int) -> None:
        one = accesslog.access(line)
        if isinstance(one, str):
            self.skipped[one] = self.skipped.get(one, 0) + 1
            return
        named = (one.status, one.caller, one.method, one.path)
        if len(self._kinds) > _MOST_KINDS and named not in self._kinds:
            named = (one.status, OTHERS, one.method, one.path if one.inference or one.probe else OTHERS)
        kind = self._kinds.setdefault(named, len(self._kinds))
        own = one.end if one.shift is None else one.end + one.shift
        self._add(own, None if one.shift is None else one.end, one.latency, kind)
        self._learn(line, at, kind)

    def _learn(self, line: str, at: int, kind: int) -> None:
        """Keep what the quick way needs for lines like this one."""
        parts = line[at + 6 :].split("|", 3)
        if len(parts) < 4 or "[GIN" in parts[3]:
            return
        for known in (self._minutes, self._raw):
            if len(known) > _MOST_KEPT:
                known.clear()
        self._raw[parts[1], parts[3]] = kind
        for text in (parts[0][:19], line[:17]):
            minute = accesslog.minute(text)
            if minute is not None:
                self._minutes[text] = minute

    def _add(self, own: float, outer: float | None, latency: float, kind: int) -> None:
        if outer is None:
            self._bare.append(len(self._ends))
            if own < self._before:
                self._back(own)
            self._before = own
            outer = own + self._ahead
        elif -_QUARTER < 2 * (own - outer) < _QUARTER:      # nearly always: containers run in UTC
            self._same += 1
        else:
            self.shifts[round((own - outer) / _QUARTER)] += 1
        self._ends.append(outer)
        self._latencies.append(latency)
        self._of.append(kind)

    def _back(self, own: float) -> None:
        """Gin's clock goes back: a line is written when its request ends, so that its order is the truth."""
        step = self._before - own
        least, most, night = _SUMMER
        if least < step <= most and self._before % 86400 < night:
            self._ahead += 3600.0
            self.summer += 1
        elif step > _STEP:
            self.back = max(self.back, step)

    def _level(self) -> None:
        """Move requests with gin's own clock to that of the prefixes, where other lines tell how far they are apart."""
        if self.shift:
            for at in self._bare:
                self._ends[at] -= self.shift


def repeated(
    ends: Sequence[float], latencies: Sequence[float], kinds: Sequence[int], files: Sequence[int],
) -> bytearray:
    """Return a 1 for every request that is there a second time, as in rotated files that overlap; empty if none is.

    With a time finer than seconds the same time, latency, caller and path are one request. In whole seconds two
    requests of one file can be alike, so only what another file has too is one.
    """
    if len(files) < 2 and all(map(lt, ends, islice(ends, 1, None))):
        return bytearray()
    several = len(files) > 1
    order = sorted(range(len(ends)), key=ends.__getitem__)
    found = bytearray(len(ends))
    start = 0
    for stop in range(1, len(order) + 1):
        if stop < len(order) and ends[order[stop]] == ends[order[start]]:
            continue
        if stop - start > 1 and (several or ends[order[start]] % 1):
            _mark(order[start:stop], ends[order[start]] % 1 != 0, latencies, kinds, files, found)
        start = stop
    return found if any(found) else bytearray()


def _mark(
    group: list[int], exact: bool, latencies: Sequence[float], kinds: Sequence[int], files: Sequence[int],
    found: bytearray,
) -> None:
    """Mark what a group of requests that end at the same moment has twice: per file the most often counts."""
    kept: Counter[tuple[float, int]] = Counter()
    here: Counter[tuple[float, int]] = Counter()
    file = -1
    for at in group:        # in order of the files, as sorting is stable
        now = bisect_right(files, at)
        if now != file:
            file, here = now, Counter()
        key = (latencies[at], kinds[at])
        here[key] += 1
        if here[key] <= kept[key] or (exact and kept[key]):
            found[at] = 1
        else:
            kept[key] += 1
