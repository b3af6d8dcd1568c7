"""Stay, stay but tune, consider, migrate, or cannot: what was measured first, then what was stated, with sources."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.decide.readings import number, whole
from orchestrator.decide.verdict.hardware import hardware
from orchestrator.decide.verdict.needs import demands, size
from orchestrator.decide.verdict.parts import (
    KINDS,
    Demand,
    Missing,
    Reason,
    Row,
    Symptom,
    concurrency,
    demand,
    rank,
    table,
)
from orchestrator.decide.verdict.symptoms import ENOUGH, NEEDED, symptoms
from orchestrator.facts import Facts
from orchestrator.spec_needs import Needs

_HOURS = 4.0    # per week, S3
MEASURE = Missing(
    "how many requests come at once",
    "run `migrate plan` where Ollama's log can be read, or `migrate plan --watch 10m` at a busy hour, "
    "or say needs: {users: N} in migrate.yaml",
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """kind: stay, tune, consider, migrate, cannot. Reasons in the order in which they count.

    hours_lost: per week, waiting behind others; None: unknown. table: every article's threshold of concurrency.
    """

    kind: str
    reasons: tuple[Reason, ...]
    load: Demand
    table: tuple[Row, ...]
    symptoms: tuple[Symptom, ...]
    hours_lost: float | None
    missing: tuple[Missing, ...]


def decide(facts: Facts, needs: Needs | None = None, scheme_capability: float | None = None) -> Verdict:
    """Return the verdict. `scheme_capability`: compute capability that the chosen weight format needs, if chosen."""
    needs = needs or Needs()
    load = demand(facts, needs)
    found, missing = hardware(facts, scheme_capability)
    impossible = any(reason.points == "cannot" for reason in found)
    signs = symptoms(facts, needs, load)
    hours = number(facts.traffic.queue_hours_per_week)
    weighed = [
        *concurrency(load, facts.traffic, needs.users),
        *_symptoms(signs, load),
        *demands(needs, facts, load),
        *size(facts, load),
        *_hours(hours, load),
        *_settings(facts),
    ]
    kind, last = _weigh(weighed, load, needs, calm=_calm(facts, load, hours))
    return Verdict(
        "cannot" if impossible else kind,
        (*found, *weighed, *last),
        load,
        table(load, facts.traffic),
        signs,
        hours,
        (*missing, *_missing(load, needs, signs, hours)),
    )


def _calm(facts: Facts, load: Demand, hours: float | None) -> bool:
    """Whether the log shows that nobody waits: Ollama answers as many at once as come, and quickly."""
    traffic, latency = facts.traffic, number(facts.traffic.latency.p95)
    env = facts.ollama.container.env if facts.ollama.container else {}
    slots = whole(env.get("OLLAMA_NUM_PARALLEL")) or 1
    quick = latency is not None and latency < 30 and (number(traffic.over_30s) or 0.0) < 0.01
    few = load.evidence == "measured" and load.usual is not None and load.usual <= slots
    return few and quick and hours is not None and hours < 1 and traffic.requests >= ENOUGH


def _weigh(weighed: list[Reason], load: Demand, needs: Needs, *, calm: bool) -> tuple[str, list[Reason]]:
    """The strongest push wins; without any evidence nothing is claimed; capacity and simplicity hold back."""
    level = max((rank(one.points) for one in weighed if one.points and one.points != "stay"), default=None)
    stay = any(one.points == "stay" for one in weighed if one.kind == "concurrency")
    small = needs.purpose in ("development", "edge") or needs.simplest_setup
    if level is None:
        level = rank("stay" if stay or small else "consider")
    last = []
    hard = any(one.points == "migrate" and one.kind != "concurrency" for one in weighed)
    pushed = any(one.points in ("consider", "migrate") and one.kind != "concurrency" for one in weighed)
    if calm and not pushed and rank("stay") < level < rank("migrate"):
        level -= 1
        text = "held back one step: Ollama answers as many at once as come, and hardly anybody waits"
        last.append(Reason("concurrency", text, "measured"))
    if needs.simplest_setup and not hard and level > rank("tune"):
        level -= 1
        last.append(Reason("needs", "held back one step, as the simplest setup matters most", "stated"))
    if needs.operating_capacity is False and level >= rank("consider"):
        level = rank("consider")
        managed = "" if needs.on_premises else " or a managed service"
        text = (f"nobody is there to operate vLLM: a proxy first (LiteLLM){managed}, "
                "so that the engine can change later without touching clients (S0)")  # fmt: skip
        last.append(Reason("capacity", text, "stated", "consider"))
    if load.usual is None and KINDS[level] == "consider" and all(one.points in ("", "stay") for one in weighed):
        last.append(Reason("evidence", "nothing measured or stated speaks for leaving; the load is unknown", "unknown"))
    return KINDS[level], last


def _symptoms(signs: tuple[Symptom, ...], load: Demand) -> list[Reason]:
    met = [one for one in signs if one.met]
    unknown = sum(one.met is None for one in signs)
    if not met and unknown == len(signs):
        return [Reason("symptoms", "none of the six symptoms is known; three would say migrate (S3)", "unknown")]
    text = f"{len(met)} of 6 symptoms met, {unknown} unknown; three or more say migrate (S3)"
    measured = sum(one.evidence == "measured" for one in met)
    if met and 0 < measured < len(met):
        text += f"; {measured} of them measured, the rest as stated"
    plain = not met and any(one.evidence == "measured" for one in signs)
    evidence = "measured" if plain or (met and measured == len(met)) else "asked"
    if len(met) < NEEDED:
        return [Reason("symptoms", text, evidence)]
    if load.usual is None or load.usual >= 3:
        return [Reason("symptoms", text, evidence, "migrate")]
    if load.evidence == "measured":
        text += f". But only {load.usual:g} at once were measured: look at settings and hardware first"
        return [Reason("symptoms", text, evidence, "tune")]
    return [Reason("symptoms", text, evidence, "consider")]


def _hours(hours: float | None, load: Demand) -> list[Reason]:
    if hours is None:
        return [Reason("hours", "time lost to queueing is not known", "unknown")]
    text = f"{hours:.1f} hours a week are lost waiting behind others; S3 cites 4 as worth a migration"
    if hours < _HOURS:
        return [Reason("hours", text, "measured", "tune" if hours >= 1 else "")]
    if load.usual is not None and load.usual < 3:
        text += ". With so few at once, loading of models is the likelier cause"
        return [Reason("hours", text, "measured", "tune")]
    return [Reason("hours", text, "measured", "migrate")]


def _settings(facts: Facts) -> list[Reason]:
    """What is wrong with today's Ollama whatever the load."""
    found = []
    traffic = facts.traffic
    spilled = [one.name for one in facts.ollama.loaded if one.spilled]
    if spilled and facts.gpus:
        text = f"{', '.join(spilled)} lies partly in the host's memory, which is slow and gives no error"
        found.append(Reason("settings", text, "measured", "tune"))
    if traffic.truncated:
        text = f"{traffic.truncated} prompts were cut silently: the context is too short"
        found.append(Reason("settings", text, "measured", "tune"))
    if traffic.busy:
        text = f"{traffic.busy} requests were refused with 503: too many waited for a model to load"
        found.append(Reason("settings", text, "measured", "tune"))
    share = number(traffic.over_30s) or 0.0
    if traffic.requests >= ENOUGH and share >= 0.01:
        text = f"{share:.1%} of requests took over 30 s, a common timeout (S3)"
        found.append(Reason("settings", text, "measured", "tune"))
    return found


def _missing(
    load: Demand, needs: Needs, signs: tuple[Symptom, ...], hours: float | None
) -> list[Missing]:
    found = []
    if load.evidence != "measured":
        found.append(MEASURE)
    unknown = [one.name for one in signs if one.met is None]
    if unknown:
        found.append(Missing(f"symptoms {', '.join(unknown)}", "answer them under needs: symptoms: in migrate.yaml"))
    if hours is None:
        found.append(Missing("time lost to queueing", "it comes from Ollama's access log: keep a week of it"))
    if needs.operating_capacity is None:
        found.append(Missing("who will operate vLLM", "say needs: {operating_capacity: true} or false"))
    return found
