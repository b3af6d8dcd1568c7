"""`migrate plan`: look, decide, write the stack's files. Nothing half-written, nothing else changed."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml

from orchestrator import plan as plans
from orchestrator import render
from orchestrator.clients.docker import Docker
from orchestrator.commands.session import OVERRIDE, open_journal, workspace
from orchestrator.console import Console
from orchestrator.decide.budget import Proof, Running, proof
from orchestrator.decide.catalog import load as load_catalog
from orchestrator.decide.propose import Proposal, propose
from orchestrator.decide.specfile import spec_to_yaml
from orchestrator.errors import ExitCode, MigrateError, UsageError
from orchestrator.events import Happening, Kind
from orchestrator.facts import Facts
from orchestrator.flags import Common
from orchestrator.names import canonical
from orchestrator.observe import world
from orchestrator.plan import Plan
from orchestrator.spec import Spec
from orchestrator.workspace import SPEC_FILE, Workspace, near

GIB = 2**30
UTILIZATION = "--gpu-memory-utilization"


def plan(
    console: Console, common: Common, *, ollama: str | None, models: tuple[str, ...], cpu: bool, exit_code: bool
) -> int:
    """Observe, decide, render; prints what was seen, why, and the steps of `up`."""
    space = workspace(common, new=True)
    written = space.spec() if space.spec_path.exists() else None
    docker = Docker()
    console.emit(Happening(Kind.WAIT, "plan", "looking at Ollama, GPUs and Docker"))
    facts = world.look(ollama or (written.ollama.url if written else None), docker)
    facts = _with_container(facts, space)
    _known(models, facts)
    proposal = None
    if written is None:
        proposal = propose(space.dir.resolve().name, facts, models or None, _overrides(cpu=cpu))
    spec = written or _spec(proposal)
    sums = proof(spec, facts, load_catalog(), _running(spec, facts, docker))
    absent = [line for line in sums.unknown if line.startswith("GPU ")] if facts.gpus else []
    if sums.problems or absent:
        raise MigrateError(
            "the plan does not fit: " + [*sums.problems, *absent][0], evidence=str(sums),
            hint=f"change {space.spec_path}, or take smaller or fewer models", code=ExitCode.GATE,
        )
    checked = _write(console, space, spec, facts, docker, proposal)
    journal = open_journal(space, spec)
    steps = plans.plan_up(spec, journal.states())
    journal.append("plan", spec.name, str(steps), steps.as_dict())
    report = _report(space, spec, facts, proposal, sums, steps, checked=checked)
    console.answer(report, _data(space, spec, facts, proposal, sums, steps, checked=checked))
    return ExitCode.CHANGES if exit_code and steps.steps else ExitCode.DONE


def _spec(proposal: Proposal | None) -> Spec:
    assert proposal is not None
    return proposal.spec


def _with_container(facts: Facts, space: Workspace) -> Facts:
    """Keep what the first plan saw of the original container: after the take-over it is parked."""
    before = space.facts()
    if facts.ollama.container or before is None or before.ollama.container is None:
        return facts
    return dataclasses.replace(facts, ollama=dataclasses.replace(facts.ollama, container=before.ollama.container))


def _running(spec: Spec, facts: Facts, docker: Docker) -> list[Running]:
    """Return the stack's own engines that run now, by what they were started with."""
    if facts.docker is None or facts.docker.problem:
        return []
    found = docker.containers(project=f"migrate-{spec.name}", running=True)
    flags = [(one, dict(zip(one.command, one.command[1:], strict=False))) for one in found]
    return [
        Running(tuple(gpu for request in one.gpus for gpu in request.device_ids), float(given[UTILIZATION]))
        for one, given in flags
        if one.service.startswith("vllm-") and UTILIZATION in given
    ]


def _known(models: tuple[str, ...], facts: Facts) -> None:
    installed = {canonical(model.name) for model in facts.ollama.models}
    missing = [model for model in models if canonical(model) not in installed]
    if missing:
        names = ", ".join(model.name for model in facts.ollama.models) or "none"
        raise UsageError(
            f"Ollama at {facts.ollama.url} has no model {', '.join(missing)}",
            evidence=f"installed: {names}", hint="name one of these, or get it with: ollama pull",
        )


def _overrides(*, cpu: bool) -> dict[str, Any]:
    """Return what is laid over a first proposal: the file named by $MIGRATE_DEFAULTS, and --cpu."""
    laid: dict[str, Any] = {}
    path = os.environ.get("MIGRATE_DEFAULTS")
    if path:
        try:
            found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise UsageError(f"cannot read MIGRATE_DEFAULTS={path}: {error}", hint="correct the file") from None
        if not isinstance(found, dict):
            raise UsageError(f"{path} should be a mapping, as migrate.yaml is", hint="correct the file")
        for section in ("engines", "routes"):
            named = found.get(section, {})
            if not isinstance(named, dict) or not all(isinstance(one, dict) for one in named.values()):
                raise UsageError(f"{path}: {section} should be a mapping of mappings", hint="correct the file")
        laid = found
    if cpu:
        laid["accelerator"] = "cpu"
    return laid


def _write(
    console: Console, space: Workspace, spec: Spec, facts: Facts, docker: Docker, proposal: Proposal | None
) -> bool:
    """Render beside the stack, have Compose accept it, then write. Returns whether Compose was asked."""
    files = render.render(spec, facts)
    usable = facts.docker is not None and not facts.docker.problem
    try:
        if usable:
            _check(files, space, spec, docker)
        space.dir.mkdir(parents=True, exist_ok=True)
        if proposal:
            files = {SPEC_FILE: spec_to_yaml(spec, proposal), **files}
        render.write(space.dir, files)
        space.save_facts(facts)
    except OSError as error:
        raise MigrateError(
            f"cannot write the stack into {space.dir}: {error.strerror or error}",
            hint="free space, or name a folder you may write: MIGRATE_STACKS=DIR",
        ) from error
    if not usable and facts.docker:
        console.emit(Happening(Kind.WARN, "docker", f"{facts.docker.problem}: the files were not checked with it"))
    return usable


def _check(files: dict[str, str], space: Workspace, spec: Spec, docker: Docker) -> None:
    with tempfile.TemporaryDirectory(prefix="migrate-") as scratch:
        folder = Path(scratch)
        render.write(folder, files)
        for extra in (".env", OVERRIDE):
            if (space.dir / extra).exists():
                shutil.copy(space.dir / extra, folder / extra)
        # A gated repository needs HF_TOKEN only when the stack starts: a plan can be made without.
        environment = folder / ".env"
        if any(engine.gated for engine in spec.engines.values()) and not os.environ.get("HF_TOKEN"):
            known = environment.read_text(encoding="utf-8") if environment.exists() else ""
            if "HF_TOKEN=" not in known:
                environment.write_text(f"{known}\nHF_TOKEN=not-given-yet\n", encoding="utf-8")
        names = [folder / "compose.yaml", *([folder / OVERRIDE] if (folder / OVERRIDE).exists() else [])]
        docker.compose(f"migrate-{spec.name}", folder, names).config_check()


def _report(
    space: Workspace, spec: Spec, facts: Facts, proposal: Proposal | None, sums: Proof, steps: Plan, *, checked: bool
) -> str:
    lines = [*_seen(facts), "", *_routes(spec, proposal)]
    if proposal:
        lines += [f"  note: {note}" for note in proposal.notes]
    if sums.budgets or sums.unknown:
        lines += ["", "memory", *(f"  {line}" for line in str(sums).splitlines())]
    accepted = "accepted by docker compose config" if checked else "not checked: Docker cannot be used here"
    lines += ["", f"written to {near(space.dir)} ({accepted})", "", "steps of migrate up", str(steps), ""]
    if not spec.migrating():
        lines.append("nothing is to migrate: every model stays on Ollama")
        return "\n".join(lines)
    if spec.ollama.container is None:
        lines.append("Ollama is not a container of this Docker Engine, so migrate up cannot take its port over.")
        lines.append("next: run Ollama as a container, then run migrate plan again")
        return "\n".join(lines)
    flag = f" --stack {spec.name}" if space.dir.resolve().name != "main" else ""
    lines.append(f"next: read {near(space.spec_path)}, then run: migrate up{flag}")
    return "\n".join(lines)


def _seen(facts: Facts) -> list[str]:
    ollama = facts.ollama
    where = f"container {ollama.container.name}" if ollama.container else "not a container of this Docker Engine"
    loaded = {one.name: one for one in ollama.loaded}
    lines = [f"Ollama {ollama.version} at {ollama.url} ({where}), {len(ollama.models)} models"]
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


def _data(
    space: Workspace, spec: Spec, facts: Facts, proposal: Proposal | None, sums: Proof, steps: Plan, *, checked: bool
) -> dict[str, Any]:
    return {
        "stack": spec.name,
        "dir": str(space.dir),
        "compose_checked": checked,
        "ollama": {"url": facts.ollama.url, "version": facts.ollama.version,
                   "models": [model.name for model in facts.ollama.models],
                   "container": facts.ollama.container.name if facts.ollama.container else None},
        "gpus": [dataclasses.asdict(gpu) for gpu in facts.gpus],
        "gpu_problem": facts.gpu_problem,
        "docker": dataclasses.asdict(facts.docker) if facts.docker else None,
        "routes": {model: route.model_dump(mode="json") for model, route in spec.routes.items()},
        "engines": {name: engine.model_dump(mode="json", exclude={"env"}) for name, engine in spec.engines.items()},
        "stays": proposal.stays if proposal else {},
        "memory": str(sums).splitlines(),
        "plan": steps.as_dict(),
    }
