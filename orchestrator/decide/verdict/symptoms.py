"""The six symptoms of article S3: measured where the log can tell, else asked."""

from __future__ import annotations

from orchestrator.decide.readings import number
from orchestrator.decide.verdict.parts import Demand, Symptom
from orchestrator.facts import Facts, Traffic
from orchestrator.spec_needs import Needs

ENOUGH = 20     # requests from which a p95 means something (S3)
NEEDED = 3
_TEXT = {
    "peak_hour_timeouts": "timeouts at busy hours that vanish at night and weekends",
    "slow_under_load": "prompts that take under 5 s alone take 30 s or more under load",
    "coordination": "people coordinate who may use it when",
    "several_ollamas": "several Ollamas behind a load balancer were proposed",
    "new_stakeholders": "people who are no developers ask for access",
    "parallel_streams": "several clients must get their streams at once",
}


def symptoms(facts: Facts, needs: Needs, load: Demand) -> tuple[Symptom, ...]:
    """Return the six, each met, not met or unknown, with its evidence."""
    measured = {}
    if load.evidence == "measured":
        traffic = facts.traffic
        measured = {
            "peak_hour_timeouts": _timeouts(traffic),
            "slow_under_load": _slow(traffic),
            "parallel_streams": _streams(facts, load),
        }
    return tuple(_one(name, measured.get(name), getattr(needs.symptoms, name)) for name in _TEXT)


def _one(name: str, measured: tuple[bool, str] | None, asked: bool | None) -> Symptom:
    if measured is not None:
        met, why = measured
        if asked is not None and asked is not met:
            why += f"; migrate.yaml says {'yes' if asked else 'no'}, the measurement counts"
        return Symptom(name, _TEXT[name], met, "measured", why)
    if asked is not None:
        return Symptom(name, _TEXT[name], asked, "asked", "as stated in migrate.yaml")
    return Symptom(name, _TEXT[name], None, "unknown", f"say needs.symptoms.{name}: true or false in migrate.yaml")


def _timeouts(traffic: Traffic) -> tuple[bool, str] | None:
    """Long requests count as timeouts only where quiet hours exist to compare with."""
    share = number(traffic.over_30s) or 0.0
    if traffic.requests < ENOUGH:
        return None
    if share <= 0 and traffic.busy == 0:
        return False, f"none of {traffic.requests} requests took over 30 s or was refused as busy"
    hours = traffic.peak_by_hour.values()
    if len(hours) > 1 and max(hours) >= 3 and min(hours) <= 1:
        return True, (f"{share:.1%} of requests took over 30 s, {traffic.busy} were refused as busy; "
                      f"hours differ from {min(hours)} to {max(hours)} at once")  # fmt: skip
    return None


def _slow(traffic: Traffic) -> tuple[bool, str] | None:
    p50, p95 = number(traffic.latency.p50), number(traffic.latency.p95)
    if traffic.latency.n < ENOUGH or p95 is None:
        return None
    if p95 < 30:
        return False, f"95 % of requests took at most {p95:.1f} s"
    if p50 is not None and p50 < 5:
        return True, f"half took at most {p50:.1f} s, but the slowest twentieth {p95:.0f} s or more"
    return None     # long answers take long alone, too


def _streams(facts: Facts, load: Demand) -> tuple[bool, str] | None:
    callers, usual = len(facts.traffic.callers), load.usual or 0
    if load.peak is not None and load.peak <= 1:
        return False, "never more than one request at once"
    if callers >= 2 and usual >= 2:
        return True, f"{callers} callers, {usual:g} at once while busy"
    return None     # one address may be a proxy with many behind it
