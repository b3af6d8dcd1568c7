"""The pieces of a verdict, and what is known of the load."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.decide.cited import Threshold, cited
from orchestrator.decide.readings import number
from orchestrator.facts import Facts, Traffic
from orchestrator.spec_needs import Needs

KINDS = ("stay", "tune", "consider", "migrate")     # rising; `cannot` stands apart
_DAY = 86400.0
_SHORT = 3600.0     # seconds; less than an hour says little of a week


@dataclass(frozen=True, slots=True)
class Reason:
    """One ground. evidence: measured, asked, cited, stated or unknown; points: the verdict it speaks for, or none."""

    kind: str
    text: str
    evidence: str
    points: str = ""


@dataclass(frozen=True, slots=True)
class Symptom:
    """One of S3's six; met None: unknown. evidence as in Reason."""

    name: str
    text: str
    met: bool | None
    evidence: str
    why: str


@dataclass(frozen=True, slots=True)
class Row:
    """One article's threshold beside what is known here; None: unknown. seconds: time at or above it."""

    threshold: Threshold
    by_peak: bool | None
    by_p95: bool | None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """What is not known, and how to get it."""

    what: str
    how: str


@dataclass(frozen=True, slots=True)
class Demand:
    """Requests at once: the peak, and what is usual (p95 while busy, else the peak). None: unknown."""

    peak: float | None = None
    p95: float | None = None
    evidence: str = "unknown"
    where: str = ""

    @property
    def usual(self) -> float | None:
        return self.p95 if self.p95 is not None else self.peak


def demand(facts: Facts, needs: Needs) -> Demand:
    """Return what is known of concurrency: measured before stated."""
    traffic = facts.traffic
    peak, p95 = number(traffic.concurrency.peak), number(traffic.concurrency.p95)
    if traffic.source not in ("none", "stated", ""):
        known = peak if peak is not None else p95
        if known is not None and known > 0:
            return Demand(known, p95, "measured", origin(traffic))
        understood = traffic.lines > sum(traffic.skipped.values())
        if traffic.seconds >= _DAY and traffic.requests == 0 and understood:
            return Demand(0, 0, "measured", origin(traffic))
    if traffic.source == "stated" and peak:
        return Demand(peak, None, "stated", traffic.origin or "users in the spec")
    if needs.users is not None:
        return Demand(needs.users, None, "stated", "needs.users")
    return Demand()


def origin(traffic: Traffic) -> str:
    """Return which evidence this is, for a reader."""
    word = {"log": "Ollama's access log", "watch": "samples of the running Ollama"}.get(traffic.source, traffic.source)
    named = f"{word} ({traffic.origin})" if traffic.origin else word
    return f"{named}, {duration(traffic.seconds)}" if traffic.seconds > 0 else named


def duration(seconds: float) -> str:
    for size, word in ((_DAY, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {word}"
    return f"{seconds:.0f} s"


def table(load: Demand, traffic: Traffic) -> tuple[Row, ...]:
    """Return every article's threshold of concurrency beside the load, by rising value."""
    rows = []
    for one in sorted(cited().of("concurrent"), key=lambda one: (one.at, one.source.id)):
        above = traffic.seconds_above.get(str(int(one.at) - 1)) if load.evidence == "measured" else None
        rows.append(Row(one, _within(one, load.peak), _within(one, load.p95), above))
    return tuple(rows)


def _within(one: Threshold, value: float | None) -> bool | None:
    if value is None:
        return None
    return value >= one.at and (one.until is None or value <= one.until)


def band(at_once: float) -> str:
    """Return the verdict of a usual number of requests at once.

    Under 3 no article says leave; from 3 to 4 one does (S3); from 5 to 19 they disagree; from 20 on all agree.
    """
    return "stay" if at_once < 3 else "tune" if at_once < 5 else "consider" if at_once < 20 else "migrate"


def rank(kind: str) -> int:
    return KINDS.index(kind)


def concurrency(load: Demand, traffic: Traffic, users: int | None = None) -> list[Reason]:
    """Return what the load says by itself. `users`: what the spec says, beside a measurement."""
    usual = load.usual
    if usual is None or load.peak is None:
        text = "how many requests come at once is not known, and that decides in every article"
        if traffic.source not in ("none", "stated", "") and traffic.requests == 0 and traffic.seconds > 0:
            text += f"; {duration(traffic.seconds)} without a request are no evidence of a small load"
        if traffic.lines and traffic.lines <= sum(traffic.skipped.values()):
            text += f"; none of the {traffic.lines} lines of the log could be read as a request"
        return [Reason("concurrency", text, "unknown")]
    points = band(usual)
    if load.peak >= 5 and rank(band(load.peak)) > rank(points):     # short bursts: one step, never to migrate
        points = KINDS[min(rank(points) + 1, rank("consider"))]
    p95 = f", 95 % of the busy time at most {load.p95:g}" if load.p95 is not None else ""
    text = f"{load.peak:g} at once at the peak{p95} ({load.where}{_busiest(traffic)}); {_agreement(usual)}"
    if load.evidence == "stated":
        text = f"{load.peak:g} at once, as stated in {load.where}, not measured; {_agreement(usual)}"
    elif users is not None and users != load.peak:
        text += f"; needs.users says {users}; the measurement counts"
    found = [Reason("concurrency", text, load.evidence, points)]
    if load.evidence == "measured" and 0 < traffic.seconds < _SHORT:
        short = f"the evidence covers only {duration(traffic.seconds)}: a busier hour is not in it"
        found.append(Reason("concurrency", short, "unknown"))
    return found


def _busiest(traffic: Traffic) -> str:
    most = max(traffic.peak_by_hour.values(), default=0)
    hours = sorted(hour for hour, peak in traffic.peak_by_hour.items() if peak == most)
    if not 0 < len(hours) <= 3 or len(hours) == len(traffic.peak_by_hour):
        return ""
    return f"; busiest at {', '.join(hours)} h"


def _agreement(usual: float) -> str:
    if usual < 3:
        return "no article says leave below 3"
    leave = _saying("migrate", usual)
    consider = _saying("consider", usual) - leave
    stay = _saying("stay", usual) - leave - consider
    named = ((leave, "vLLM"), (consider, "consider"), (stay, "Ollama"))
    parts = [f"{', '.join(sorted(ids))} say{'s' if len(ids) == 1 else ''} {word}" for ids, word in named if ids]
    return "the articles: " + "; ".join(parts)


def _saying(says: str, value: float) -> set[str]:
    return {one.source.id for one in cited().of("concurrent") if one.says == says and _within(one, value)}
