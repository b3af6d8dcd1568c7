"""From lines, samples or a statement to Traffic: what callers really do, how it is known, and what is not known."""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable
from operator import sub
from typing import Any

from orchestrator.decide.accesslog import Access
from orchestrator.decide.gathered import TWICE, Gathered, Kind
from orchestrator.decide.overlap import Overlap, sweep
from orchestrator.facts import Spread, Traffic

# The thresholds of the articles, and one below each: "from 8 on" is more than 7.
LEVELS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 19, 20, 49, 50, 127, 128)
_WEEK = 7 * 86400.0
_LEAST_SPAN = 3600.0        # below this nothing is scaled to a week
_ENOUGH = {50: 1, 95: 20, 99: 100}      # nearest rank wants at least so many (methods: P95 n >= 20, P99 n >= 100)


def reconstruct(lines: Iterable[str | bytes], origin: str = "") -> Traffic:
    """Return what one file of Ollama's log shows; see `summed`."""
    log = Gathered()
    log.read(lines)
    return summed(log, origin)


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


def summed(log: Gathered, origin: str = "", notes: tuple[str, ...] = ()) -> Traffic:
    """Return what Ollama's log shows. Lines may come in any order; what cannot be read is counted, never raised.

    Offered concurrency is the overlap of [end - latency, end), waiting included. Time is that of docker or journald
    where the lines carry it with a zone, else gin's own (whole seconds). Hours of the day are in that clock, UTC in
    containers. `notes` stand before those about the lines.
    """
    found = log.requests()
    if found.twice:
        log.skipped[TWICE] = found.twice
    starts = sorted(map(sub, found.ends, found.latencies))
    ends = sorted(found.ends)
    over = sweep(starts, ends)
    begin, end = (starts[0], ends[-1]) if ends else (0.0, 0.0)
    minute = _busiest(ends)
    del starts, ends        # a list of a million numbers is 32 MB
    latencies = sorted(found.latencies)
    slots, count, counted = _slots(log), len(latencies), _counted(found.kinds)
    level = Spread(count, over.percentile(0.5), over.percentile(0.95), over.percentile(0.99), float(over.peak) or None)
    return Traffic(
        source="log" if count else "none", origin=origin, begin=_when(begin) if count else "",
        end=_when(end) if count else "", seconds=end - begin, requests=count,
        concurrency=level, seconds_above={str(one): over.above(one) for one in LEVELS},
        peak_by_hour={f"{hour:02d}": peak for hour, peak in sorted(over.by_hour.items())}, latency=spread(latencies),
        over_30s=(count - bisect_right(latencies, 30.0)) / count if count else 0.0, requests_per_minute=minute,
        prompt_tokens=spread(sorted(log.engine.prompts)), output_tokens=spread(sorted(log.engine.outputs)),
        sampling=log.engine.sampling, models=_models(log, count),
        largest_context=log.engine.context or None, truncated=log.engine.truncated,
        queue_hours_per_week=_queue(over, slots, end - begin), lines=log.lines, skipped=log.skipped,
        notes=(*notes, *_notes(log, slots, count, origin), *_alone(counted["callers"], over.peak)), **counted,
    )  # fmt: skip


def _alone(callers: dict[str, int], peak: int) -> Iterable[str]:
    # gin trusts X-Forwarded-For; without it everyone behind a proxy is one.
    if len(callers) == 1 and peak > 1:
        only = next(iter(callers))
        yield f"every request comes from {only}: a proxy or chat interface counts as one caller, whoever is behind it"


def _counted(kinds: Counter[Kind]) -> dict[str, Any]:
    """Return the fields of Traffic that count requests by what they are."""
    callers: Counter[str] = Counter()
    paths: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for (status, caller, method, path), count in kinds.items():
        paths[path] += count
        one = Access(0.0, 0.0, status, caller, method, path)
        if one.probe or not one.inference:
            found["probes" if one.probe else "other"] += count
            continue
        callers[caller] += count
        found["all"] += count
        found["native"] += count * path.startswith("/api/")
        found["cancelled"] += count * (status == 499)
        found["busy"] += count * (status == 503)
        found["errors"] += count * (status >= 400 and status != 499)
    fields = {name: found[name] for name in ("probes", "other", "errors", "busy", "cancelled")}
    native = found["native"] / found["all"] if found["all"] else None
    return {**fields, "callers": _most(callers), "paths": _most(paths), "native": native}


def _busiest(ends: list[float]) -> float:
    """Return how many requests ended in the minute with the most of them; `ends` is sorted."""
    most = at = 0
    while at < len(ends):
        after = bisect_left(ends, (ends[at] // 60 + 1) * 60, at)
        most, at = max(most, after - at), after
    return float(most)


def _slots(log: Gathered) -> int:
    told = log.engine.settings.get("OLLAMA_NUM_PARALLEL", "")
    return log.engine.slots or (int(told) if told.isdigit() and int(told) > 0 else 1)


def _queue(over: Overlap, slots: int, span: float) -> float | None:
    """Request-hours beyond what Ollama answers at once, scaled to a week; None when the log is too short."""
    if span < _LEAST_SPAN:
        return None
    return over.waiting(slots) / span * _WEEK / 3600


def _models(log: Gathered, count: int) -> dict[str, int] | None:
    # The access log names no model: only when one file of weights was ever started is it known which.
    only = list(log.engine.started)
    return {only[0]: count} if len(only) == 1 and count else None


def _notes(log: Gathered, slots: int, count: int, origin: str) -> Iterable[str]:
    if not count and origin:
        yield f"{origin}: {log.lines} line{'s' if log.lines != 1 else ''} read, none of them a request to a model"
    yield f"{slots} answered at once by Ollama: what is beyond waits"
    yield from _clock(log, count)
    if unread := sum(count for why, count in log.skipped.items() if why != TWICE):
        yield f"{unread} lines of requests could not be read"
    if TWICE in log.skipped:
        yield f"{log.skipped[TWICE]} requests are in the log twice, as rotated files overlap: counted once"
    if log.engine.truncated:
        yield f"{log.engine.truncated} prompts were cut silently, as they were longer than the context"


def _clock(log: Gathered, count: int) -> Iterable[str]:
    """Say whose clock counts, and what is odd about it."""
    if log.shift:
        yield f"gin's clock is {log.shift / 3600:+g} h from the one in front of its lines, which counts"
    if len(steady := [one for one, seen in log.shifts.items() if seen > 1]) > 1:
        hours = ", ".join(f"{one / 4:+g}" for one in sorted(steady))
        yield f"gin's clock is at times {hours} h from the one in front, as with summer time"
    if log.bare and log.shifts:
        apart = f"{log.shift / 3600:+g} h from the others'"
        yield f"{log.bare} lines tell no time with a zone: gin's clock counts there, taken as {apart}"
    elif log.bare and count:
        yield "times are gin's own clock: whole seconds, in a zone that the log does not tell"
    if log.summer:
        yield "gin's clock goes back an hour at night: taken as the end of summer time"
    if log.back:
        yield f"gin's clock goes back by up to {log.back:.0f} s within a file: overlap there is not certain"


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
