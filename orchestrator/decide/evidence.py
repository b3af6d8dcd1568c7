"""From lines, samples or a statement to Traffic: what callers really do, how it is known, and what is not known."""

from __future__ import annotations

import datetime as dt
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestrator.decide import accesslog
from orchestrator.decide.accesslog import Access
from orchestrator.decide.overlap import Overlap, sweep
from orchestrator.facts import Spread, Traffic

# The thresholds of the articles, and one below each: "from 8 on" is more than 7.
LEVELS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 19, 20, 49, 50, 127, 128)
_TWICE = "in the log twice"
_WEEK = 7 * 86400.0
_LEAST_SPAN = 3600.0        # below this nothing is scaled to a week
_ENOUGH = {50: 1, 95: 20, 99: 100}      # nearest rank wants at least so many (methods: P95 n >= 20, P99 n >= 100)


@dataclass(slots=True)
class _Seen:
    """What has gone by; numbers in compact arrays, as a log may have millions of lines."""

    starts: array[float] = field(default_factory=lambda: array("d"))
    ends: array[float] = field(default_factory=lambda: array("d"))
    latencies: array[float] = field(default_factory=lambda: array("d"))
    minutes: dict[int, int] = field(default_factory=dict)
    callers: dict[str, int] = field(default_factory=dict)
    paths: dict[str, int] = field(default_factory=dict)
    shifts: dict[int, int] = field(default_factory=dict)    # quarter hours between gin's clock and docker's
    exact: set[int] = field(default_factory=set)            # hashes of requests with a time finer than seconds
    native: int = 0
    over_30s: int = 0
    errors: int = 0
    busy: int = 0
    cancelled: int = 0
    probes: int = 0
    other: int = 0
    lines: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    engine: accesslog.Engine = field(default_factory=accesslog.Engine)

    def twice(self, one: Access) -> bool:
        """Tell whether this request was there before: rotated files overlap. Whole seconds cannot tell."""
        if one.shift is None or one.end % 1 == 0:
            return False
        key, before = hash(one), len(self.exact)
        self.exact.add(key)
        return len(self.exact) == before

    def add(self, one: Access) -> None:
        self.paths[one.path] = self.paths.get(one.path, 0) + 1
        if one.shift is not None:
            quarter = round(one.shift / 900)
            self.shifts[quarter] = self.shifts.get(quarter, 0) + 1
        if one.probe:
            self.probes += 1
            return
        if not one.inference:
            self.other += 1
            return
        self.starts.append(one.end - one.latency)
        self.ends.append(one.end)
        self.latencies.append(one.latency)
        minute = int(one.end // 60)
        self.minutes[minute] = self.minutes.get(minute, 0) + 1
        self.callers[one.caller] = self.callers.get(one.caller, 0) + 1
        self.native += one.path.startswith("/api/")
        self.over_30s += one.latency > 30
        self.cancelled += one.status == 499
        self.busy += one.status == 503
        self.errors += one.status >= 400 and one.status != 499


def reconstruct(lines: Iterable[str | bytes], origin: str = "") -> Traffic:
    """Return what Ollama's log shows. Lines may come in any order; what cannot be read is counted, never raised.

    Offered concurrency is the overlap of [end - latency, end), waiting included. Time is docker's where the lines
    carry it (nanoseconds), else gin's own (whole seconds). Hours of the day are in that clock, UTC in containers.
    """
    seen = _Seen()
    for raw in lines:
        line = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
        seen.lines += 1
        if line[:1] == "{":
            line = accesslog.unpacked(line)
        if "[GIN" not in line:
            accesslog.engine(line, seen.engine)
            continue
        one = accesslog.access(line)
        if not isinstance(one, str) and seen.twice(one):
            one = _TWICE
        if isinstance(one, str):
            seen.skipped[one] = seen.skipped.get(one, 0) + 1
        else:
            seen.add(one)
    return _traffic(seen, origin)


def stated(users: int) -> Traffic:
    """Return what a user says: so many at the same moment. Nothing was measured."""
    level = float(users)
    return Traffic(source="stated", origin="--users", concurrency=Spread(1, level, level, None, level))


def sampled(samples: Iterable[tuple[float, int, tuple[str, ...]]], origin: str = "") -> Traffic:
    """Return what samples of (seconds since the epoch, requests under way, models loaded) show.

    Between two samples anything may happen, so a peak is at least what is said here.
    """
    found = sorted(samples, key=lambda one: one[0])
    levels = sorted(level for _, level, _ in found if level)
    models: dict[str, int] = {}
    for _, level, names in found:
        if level and len(names) == 1:      # with several loaded it is not known which one works
            models[names[0]] = models.get(names[0], 0) + 1
    times = [time for time, _, _ in found]
    span = times[-1] - times[0] if times else 0.0
    step = span / max(1, len(found) - 1)
    return Traffic(
        source="watch", origin=origin, begin=_when(times[0]) if times else "", end=_when(times[-1]) if times else "",
        seconds=span, concurrency=spread(levels), models=models or None,
        seconds_above={str(level): step * sum(one > level for one in levels) for level in LEVELS},
        notes=(f"{len(found)} samples, {step:.1f} s apart: requests between two of them are not seen",),
    )  # fmt: skip


def spread(values: list[float] | list[int]) -> Spread:
    """Return nearest-rank percentiles of sorted values; None where there are too few of them."""
    n = len(values)
    rank = {share: float(values[-(-n * share // 100) - 1]) if n >= least else None for share, least in _ENOUGH.items()}
    return Spread(n, rank[50], rank[95], rank[99], float(values[-1]) if n else None)


def _traffic(seen: _Seen, origin: str) -> Traffic:
    over = sweep(seen.starts, seen.ends)
    count = len(seen.ends)
    begin = min(seen.starts, default=0.0)
    end = max(seen.ends, default=0.0)
    slots = _slots(seen)
    level = Spread(count, over.percentile(0.5), over.percentile(0.95), over.percentile(0.99), float(over.peak) or None)
    latency = spread(sorted(seen.latencies))
    return Traffic(
        source="log" if count else "none", origin=origin, begin=_when(begin) if count else "",
        end=_when(end) if count else "", seconds=end - begin, requests=count, probes=seen.probes, other=seen.other,
        concurrency=level, seconds_above={str(one): over.above(one) for one in LEVELS},
        peak_by_hour={f"{hour:02d}": peak for hour, peak in sorted(over.by_hour.items())}, latency=latency,
        over_30s=seen.over_30s / count if count else 0.0, errors=seen.errors, busy=seen.busy,
        cancelled=seen.cancelled, requests_per_minute=float(max(seen.minutes.values(), default=0)),
        callers=_most(seen.callers), paths=_most(seen.paths), native=seen.native / count if count else None,
        prompt_tokens=spread(sorted(seen.engine.prompts)), output_tokens=spread(sorted(seen.engine.outputs)),
        sampling=seen.engine.sampling, models=_models(seen, count),
        largest_context=seen.engine.context or None, truncated=seen.engine.truncated,
        queue_hours_per_week=_queue(over, slots, end - begin), lines=seen.lines, skipped=seen.skipped,
        notes=tuple(_notes(seen, slots)),
    )  # fmt: skip


def _slots(seen: _Seen) -> int:
    told = seen.engine.settings.get("OLLAMA_NUM_PARALLEL", "")
    return seen.engine.slots or (int(told) if told.isdigit() and int(told) > 0 else 1)


def _queue(over: Overlap, slots: int, span: float) -> float | None:
    """Request-hours beyond what Ollama answers at once, scaled to a week; None when the log is too short."""
    if span < _LEAST_SPAN:
        return None
    return over.waiting(slots) / span * _WEEK / 3600


def _models(seen: _Seen, count: int) -> dict[str, int] | None:
    # The access log names no model: only when one file of weights was ever started is it known which.
    only = list(seen.engine.started)
    return {only[0]: count} if len(only) == 1 and count else None


def _notes(seen: _Seen, slots: int) -> Iterable[str]:
    yield f"{slots} answered at once by Ollama: what is beyond waits"
    if seen.shifts:
        quarter = max(seen.shifts, key=lambda one: seen.shifts[one])
        if quarter:
            yield f"gin's clock is {quarter / 4:+g} h from docker's; docker's counts"
        if len(steady := [one for one, count in seen.shifts.items() if count > 1]) > 1:
            hours = ", ".join(f"{one / 4:+g}" for one in sorted(steady))
            yield f"gin's clock is at times {hours} h from docker's, as with summer time"
    if unread := sum(count for why, count in seen.skipped.items() if why != _TWICE):
        yield f"{unread} lines of requests could not be read"
    if _TWICE in seen.skipped:
        yield f"{seen.skipped[_TWICE]} requests are in the log twice, as rotated files overlap: counted once"
    if seen.engine.truncated:
        yield f"{seen.engine.truncated} prompts were cut silently, as they were longer than the context"


def _most(counted: dict[str, int], limit: int = 50) -> dict[str, int]:
    """Keep the most frequent: a log may hold any number of addresses and scanned paths."""
    top = sorted(counted.items(), key=lambda one: (-one[1], one[0]))
    rest = sum(count for _, count in top[limit:])
    return dict(top[:limit]) | ({f"{len(top) - limit} others": rest} if rest else {})


def _when(seconds: float) -> str:
    try:
        return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="seconds")
    except (OverflowError, OSError, ValueError):
        return ""
