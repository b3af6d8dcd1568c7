"""What `plan` prints: the verdict, what will run where and why, what changes for clients, how long, the way back."""

from __future__ import annotations

import dataclasses
import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator import savedplan
from orchestrator.commands.plan_memory import memory_lines
from orchestrator.decide import checklist as checks
from orchestrator.decide import eta, gpulines, outlook
from orchestrator.decide import notice as notes
from orchestrator.decide.catalog import load
from orchestrator.decide.handover import handover_lines
from orchestrator.decide.loading import download_bytes
from orchestrator.decide.plan_text import Report, readable
from orchestrator.decide.planning import Planned
from orchestrator.decide.propose import Proposal
from orchestrator.decide.verdict.text import evidence_lines, headline, tuning_lines, verdict_lines
from orchestrator.facts import Facts, Traffic
from orchestrator.plan import Plan
from orchestrator.plan.edits import Change
from orchestrator.spec import Spec
from orchestrator.workspace import Workspace, near

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Shown:
    """A plan that was written, as it is printed. `checked`: Compose accepted the files."""

    space: Workspace
    planned: Planned
    facts: Facts
    steps: Plan
    checked: bool
    hub: tuple[str, ...] = ()       # each repository as it was seen
    extra: tuple[str, ...] = ()
    kept: bool = False              # what serves has its files still: `up` writes them

    @property
    def spec(self) -> Spec:
        assert self.planned.spec is not None
        return self.planned.spec


def stays(planned: Planned, facts: Facts) -> str:
    """Return the report of a verdict after which nothing is written."""
    lines = [*_seen(facts), "", *verdict_lines(planned.verdict)]
    lines += ["", *tuning_lines(planned.settings)]
    lines += ["", "Nothing was written. To plan all the same: migrate plan --force (the override is recorded);"]
    lines.append("to rehearse on this machine with vLLM's CPU build: migrate plan --cpu")
    return "\n".join(lines)


def nowhere(planned: Planned, facts: Facts) -> str:
    """Return the report of a verdict to move where no model can: what was tried, and what would help."""
    assert planned.spec is not None
    people = readable(Report(
        verdict=f"{_headline(planned)}. But as things are, no model can move: see what stays, and why",
        why=_reasons(planned), where=(), vram=tuple(memory_lines(planned, facts)),
        clients=(), time=("nothing is to be done",), back=("nothing was changed",),
        stays=tuple(_left(planned.spec, planned)), next="as things are, every model stays on Ollama",
        handover=tuple(line for one in planned.handover for line in handover_lines(one)),
    ))  # fmt: skip
    return "\n".join([*_seen(facts), "", people, "", *tuning_lines(planned.settings), "", "Nothing was written."])


def stays_data(planned: Planned, facts: Facts) -> dict[str, Any]:
    """Return the same as JSON."""
    return {"stack": None, "dir": None, **decision(planned), **_world(facts),
            "tuning": [dataclasses.asdict(one) for one in planned.settings], **_left_data(planned)}  # fmt: skip


def _left_data(planned: Planned) -> dict[str, Any]:
    return {"stays": planned.proposal.stays if planned.proposal else {},
            "handover": {one.model: dataclasses.asdict(one) for one in planned.handover}}  # fmt: skip


def decision(planned: Planned) -> dict[str, Any]:
    """Return the verdict with its reasons, and whether it was overridden: for the journal and --json."""
    verdict = planned.verdict
    return {
        "verdict": verdict.kind, "forced": planned.forced, "rehearsal": planned.rehearsal,
        "reasons": [dataclasses.asdict(one) for one in verdict.reasons],
        "symptoms": {one.name: one.met for one in verdict.symptoms},
        "hours_lost_per_week": verdict.hours_lost,
        "missing": [dataclasses.asdict(one) for one in verdict.missing],
    }  # fmt: skip


def report(shown: Shown) -> str:
    """Return the whole report, for a person who sees it for the first time: the answers first, then the evidence."""
    spec, planned, facts = shown.spec, shown.planned, shown.facts
    people = readable(Report(
        verdict=_headline(planned),
        why=_reasons(planned),
        where=(*_routes(spec, planned.proposal), *(f"on the Hub: {line}" for line in shown.hub)),
        vram=tuple(memory_lines(planned, facts)),
        clients=tuple(outlook.clients(spec, facts)),
        time=tuple(eta.lines(times(planned))),
        back=tuple(outlook.way_back(spec)),
        stays=tuple(_left(spec, planned)),
        next="\n".join(_next(shown)).removeprefix("next: "),
        handover=tuple(line for one in planned.handover for line in handover_lines(one)),
    ))  # fmt: skip
    accepted = "accepted by docker compose config" if shown.checked else "not checked with docker compose"
    written = "not written before migrate up: what serves follows its files" if shown.kept \
        else f"written to {near(shown.space.dir)}"
    lines = [*_seen(facts), "", people, "", f"{written} ({accepted})", "",
             "steps of migrate up", str(shown.steps)]  # fmt: skip
    if not planned.rehearsal:
        lines += ["", "The evidence in full", "", *evidence_lines(planned.verdict)]
    return "\n".join([*lines, *shown.extra, "", *_next(shown)])


def edits(found: list[Change]) -> tuple[str, ...]:
    """Return what editing a deployed stack does: containers, weights, gates, the way back."""
    if not found:
        return ()
    live = ["  migrate up does it: Ollama answers meanwhile, and if a step fails all is put back as it was"] \
        if any(one.live and one.how == "weight 0 first" for one in found) else []  # fmt: skip
    return ("", "What your edit of the deployed stack does", *(f"  {one}" for one in found), *live)


def papers(planned: Planned, facts: Facts, *, checklist: bool, notice: bool) -> tuple[str, ...]:
    """Return what was asked for beside the plan: the pre-migration checklist, the note to the team."""
    spec = planned.spec
    assert spec is not None
    fits = None if planned.sums is None or not planned.sums.budgets else not planned.sums.problems
    listed = ["", "Checklist", "", checks.checklist_text(checks.checklist(spec, facts, fits=fits))] if checklist else []
    spans = {one.phase: eta.span(one) for one in times(planned)}
    return (*listed, *(["", "Note to the team", "", notes.notice(spec, facts, spans)] if notice else []))


def times(planned: Planned) -> list[eta.Eta]:
    """Return how long each phase takes; the weights' sizes are those of the proof."""
    assert planned.spec is not None
    catalog = load()
    shares = {one.ask.name: one for budget in (planned.sums.budgets if planned.sums else ()) for one in budget.shares}
    sizes: dict[str, int | None] = {
        name: download_bytes(shares[name], engine, catalog) if name in shares else None
        for name, engine in planned.spec.engines.items()
    }
    return eta.estimate(planned.spec, eta.Known(sizes))


def _reasons(planned: Planned) -> tuple[str, ...]:
    return tuple(f"[{one.evidence}] {one.text}{f' -> {one.points}' if one.points else ''}"
                 for one in planned.verdict.reasons)  # fmt: skip


def _headline(planned: Planned) -> str:
    said = headline(planned.verdict)
    if planned.rehearsal:
        return f"A rehearsal with vLLM's CPU build. Without it: {said}"
    return f"{said}. Planned all the same: --force, and the journal says so" if planned.forced else said


def _left(spec: Spec, planned: Planned) -> list[str]:
    named = [f"{model}: migrate.yaml gives it no engine" for model, route in spec.routes.items() if not route.engine]
    stays = planned.proposal.stays if planned.proposal else {}
    turns = [f"{one.model}: it would only fit in turns with Ollama (Hand-over)" for one in planned.handover
             if not planned.proposal and one.model not in spec.migrating()]  # fmt: skip
    return [*named, *turns, *(f"{model}: {why}" for model, why in stays.items())]


def _next(shown: Shown) -> list[str]:
    spec = shown.spec
    if not spec.migrating():
        anew = "" if shown.planned.proposal else f"; to have it proposed anew, remove {near(shown.space.spec_path)}"
        return [f"nothing is to migrate: every model stays on Ollama{anew}"]
    if spec.ollama.container is None:
        return ["Ollama is not a container of this Docker Engine, so migrate up cannot take its port over.",
                "next: run Ollama as a container, then run migrate plan again"]  # fmt: skip
    flag = f" --stack {spec.name}" if shown.space.dir.resolve().name != "main" else ""
    return [f"next: read {near(shown.space.spec_path)}, then run: migrate up{flag}"]


def _seen(facts: Facts) -> list[str]:
    ollama = facts.ollama
    where = f"container {ollama.container.name}" if ollama.container else "not a container of this Docker Engine"
    loaded = {one.name: one for one in ollama.loaded}
    proxy = [f"in front of Ollama: {facts.proxy}"] if facts.proxy else []
    count = f"{len(ollama.models)} model{'s' if len(ollama.models) != 1 else ''}"
    lines = [f"Ollama {ollama.version} at {ollama.url} ({where}), {count}", *proxy]
    width = max((len(model.name) for model in ollama.models), default=0)
    for model in ollama.models:
        what = " ".join(part for part in (model.parameter_size, model.quantization) if part)
        state = ""
        if model.name in loaded:
            state = ", loaded and partly on the CPU" if loaded[model.name].spilled else ", loaded"
        lines.append(f"  {model.name:<{width}}  {what or model.kind}, {model.size / GIB:.1f} GiB{state}")
    lines += gpulines.seen(facts)
    if facts.docker:
        docker = facts.docker
        lines.append(f"Docker {docker.engine}, Compose {docker.compose}" if not docker.problem
                     else f"Docker: cannot be used ({docker.problem})")
    return [*lines, *_evidence(facts.traffic)]


def _evidence(traffic: Traffic) -> list[str]:
    """Return what is known of the traffic and from where, with what its source says of itself."""
    known = {
        "log": f"{traffic.requests} requests in {traffic.origin}" + (
            f", {traffic.begin} to {traffic.end}" if traffic.begin else ""),
        "watch": f"sampled at {traffic.origin}", "stated": f"as stated in {traffic.origin}, not measured",
    }.get(traffic.source, "no evidence")
    return [f"traffic: {known}", *(f"  {note}" for note in traffic.notes)]


def _routes(spec: Spec, proposal: Proposal | None) -> list[str]:
    lines = []
    for model, route in spec.migrating().items():
        engine = spec.engines[str(route.engine)]
        where = f"GPU {', '.join(engine.gpus)}" if engine.gpus else "CPU"
        lora = f" with LoRA {route.adapter}" if route.adapter else ""
        lines.append(f"{model} -> {engine.repo}{lora} on {where}, {engine.max_model_len} tokens")
        lines += [f"   {why}" for why in (proposal.engines.get(str(route.engine), ()) if proposal else ())]
    return lines


def data(shown: Shown) -> dict[str, Any]:
    """Return the report as one JSON object; docs/plan.md describes it."""
    spec, planned = shown.spec, shown.planned
    return {
        "stack": spec.name,
        "dir": str(shown.space.dir),
        "compose_checked": shown.checked,
        **decision(planned),
        **_world(shown.facts),
        "routes": {model: route.model_dump(mode="json") for model, route in spec.routes.items()},
        "engines": {name: _engine(one.model_dump(mode="json")) for name, one in spec.engines.items()},
        "hub": list(shown.hub),
        **_left_data(planned),
        "memory": str(planned.sums).splitlines(),
        "eta": [dataclasses.asdict(one) for one in times(planned)],
        "plan": shown.steps.as_dict(),
    }


def _engine(engine: dict[str, Any]) -> dict[str, Any]:
    """Leave the environments out: what a user puts there is nobody else's business."""
    return {key: value for key, value in engine.items() if key not in ("env", "vllm")}


def _world(facts: Facts) -> dict[str, Any]:
    return {
        "ollama": {"url": facts.ollama.url, "version": facts.ollama.version,
                   "models": [model.name for model in facts.ollama.models],
                   "container": facts.ollama.container.name if facts.ollama.container else None},
        "gpus": [dataclasses.asdict(gpu) for gpu in facts.gpus],
        "gpu_problem": facts.gpu_problem,
        "gpu_notes": list(facts.gpu_notes),
        "docker": dataclasses.asdict(facts.docker) if facts.docker else None,
        "traffic": dataclasses.asdict(facts.traffic),
        "callers": [dataclasses.asdict(one) for one in facts.callers],
        "scanned": facts.scanned,
    }


def save(shown: Shown, path: str) -> None:
    """Keep the plan for `migrate up --plan`; raises MigrateError when it cannot be written."""
    at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    kept = savedplan.made(shown.spec, shown.facts, shown.steps, shown.planned.verdict.kind, at)
    savedplan.save(Path(path), kept)
