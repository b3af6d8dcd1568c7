"""What `plan` prints: the verdict, what will run where and why, what changes for clients, how long, the way back."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from orchestrator.decide import outlook
from orchestrator.decide.planning import Planned
from orchestrator.decide.propose import Proposal
from orchestrator.decide.verdict_text import headline, tuning_lines, verdict_lines
from orchestrator.facts import Facts
from orchestrator.plan import Plan
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
    extra: tuple[str, ...] = ()

    @property
    def spec(self) -> Spec:
        assert self.planned.spec is not None
        return self.planned.spec


def stays(planned: Planned, facts: Facts) -> str:
    """Return the report of a verdict after which nothing is written."""
    lines = [*_seen(facts), "", *verdict_lines(planned.verdict)]
    if planned.verdict.kind != "cannot":
        lines += ["", *tuning_lines(planned.settings)]
    lines += ["", "Nothing was written. To plan all the same: migrate plan --force (the override is recorded);"]
    lines.append("to rehearse on this machine with vLLM's CPU build: migrate plan --cpu")
    return "\n".join(lines)


def stays_data(planned: Planned, facts: Facts) -> dict[str, Any]:
    """Return the same as JSON."""
    return {"stack": None, "dir": None, **decision(planned), **_world(facts),
            "tuning": [dataclasses.asdict(one) for one in planned.settings]}  # fmt: skip


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
    """Return the whole report, for a person who sees it for the first time."""
    spec, planned = shown.spec, shown.planned
    lines = [*_seen(shown.facts), "", *_verdict(planned), "", *_routes(spec, planned.proposal)]
    if planned.proposal:
        lines += [f"  note: {note}" for note in planned.proposal.notes]
    if planned.sums and (planned.sums.budgets or planned.sums.unknown):
        lines += ["", "memory", *(f"  {line}" for line in str(planned.sums).splitlines())]
    lines += ["", "what changes for my clients", *(f"  {line}" for line in outlook.clients(spec, shown.facts))]
    lines += ["", "how to go back", *(f"  {line}" for line in outlook.way_back(spec))]
    accepted = "accepted by docker compose config" if shown.checked else "not checked with docker compose"
    lines += ["", f"written to {near(shown.space.dir)} ({accepted})", "", "steps of migrate up", str(shown.steps), ""]
    return "\n".join([*lines, *_next(shown), *shown.extra])


def _verdict(planned: Planned) -> list[str]:
    if planned.rehearsal:
        return ["a rehearsal with vLLM's CPU build; without it the verdict would be:", f"  {headline(planned.verdict)}"]
    forced = ["planned all the same: --force overrides the verdict, and the journal says so"] if planned.forced else []
    return [*verdict_lines(planned.verdict), *forced]


def _next(shown: Shown) -> list[str]:
    spec = shown.spec
    if not spec.migrating():
        return ["nothing is to migrate: every model stays on Ollama"]
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
    lines = [f"Ollama {ollama.version} at {ollama.url} ({where}), {len(ollama.models)} models", *proxy]
    width = max((len(model.name) for model in ollama.models), default=0)
    for model in ollama.models:
        what = " ".join(part for part in (model.parameter_size, model.quantization) if part)
        state = ""
        if model.name in loaded:
            state = ", loaded and partly on the CPU" if loaded[model.name].spilled else ", loaded"
        lines.append(f"  {model.name:<{width}}  {what or model.kind}, {model.size / GIB:.1f} GiB{state}")
    for gpu in facts.gpus:
        memory = f"{gpu.total / GIB:.1f} GiB, {gpu.free / GIB:.1f} free"
        lines.append(f"GPU {gpu.index}: {gpu.name}, {memory}, compute capability {gpu.compute_capability}")
    if not facts.gpus:
        lines.append(f"GPU: none ({facts.gpu_problem})")
    if facts.docker:
        docker = facts.docker
        lines.append(f"Docker {docker.engine}, Compose {docker.compose}" if not docker.problem
                     else f"Docker: cannot be used ({docker.problem})")
    return lines


def _routes(spec: Spec, proposal: Proposal | None) -> list[str]:
    lines = ["routes"]
    width = max((len(model) for model in spec.routes), default=0)
    for model, route in spec.routes.items():
        if route.engine:
            engine = spec.engines[route.engine]
            where = f"GPU {', '.join(engine.gpus)}" if engine.gpus else "CPU"
            lines.append(f"  {model:<{width}}  -> {engine.repo} on {where}, {engine.max_model_len} tokens")
            reasons = proposal.engines.get(route.engine, ()) if proposal else ()
            lines += [f"  {'':<{width}}     {why}" for why in reasons]
        else:
            lines.append(f"  {model:<{width}}  stays on Ollama")
    for model, why in (proposal.stays if proposal else {}).items():
        lines.append(f"  {model}  stays on Ollama: {why}")
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
        "stays": planned.proposal.stays if planned.proposal else {},
        "memory": str(planned.sums).splitlines(),
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
        "docker": dataclasses.asdict(facts.docker) if facts.docker else None,
        "traffic": dataclasses.asdict(facts.traffic),
    }


def save(shown: Shown, path: str) -> None:
    """Keep the plan for `migrate up --plan`."""
    raise NotImplementedError(path)
