"""`migrate plan`: look, decide, write the stack's files. Nothing half-written, nothing else changed."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml

from orchestrator import render
from orchestrator.clients.docker import Docker
from orchestrator.commands import adapters, edit, hub, plan_report
from orchestrator.commands.looking import Sources, look
from orchestrator.commands.session import OVERRIDE, open_journal, workspace
from orchestrator.console import Console
from orchestrator.decide import flagcheck
from orchestrator.decide.budget import Running
from orchestrator.decide.catalog import load
from orchestrator.decide.handover import handover_lines
from orchestrator.decide.planning import Planned, decide_plan
from orchestrator.decide.propose import Proposal
from orchestrator.decide.settle import remedy
from orchestrator.decide.specfile import spec_to_yaml
from orchestrator.errors import ExitCode, MigrateError, UsageError
from orchestrator.events import Happening, Kind
from orchestrator.facts import Facts
from orchestrator.flags import Common
from orchestrator.names import canonical
from orchestrator.spec import Spec
from orchestrator.workspace import SPEC_FILE, Workspace

UTILIZATION = "--gpu-memory-utilization"


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """What the flags of `plan` ask for, beside where to look."""

    models: tuple[str, ...] = ()
    cpu: bool = False
    force: bool = False
    exit_code: bool = False
    out: str | None = None
    checklist: bool = False
    notice: bool = False


def plan(console: Console, common: Common, *, sources: dict[str, Any], wish: dict[str, Any]) -> int:
    """Observe, decide, render; prints what was decided and why, and the steps of `up`."""
    return _plan(console, common, Sources(**sources), Wish(**wish))


def _plan(console: Console, common: Common, sources: Sources, wish: Wish) -> int:
    space = workspace(common, new=True)
    written = space.spec() if space.spec_path.exists() else None
    if written:
        flagcheck.require(written, str(space.spec_path))
    docker = Docker()
    facts = _with_container(look(console, sources, docker, written), space)
    facts = adapters.seen(facts, written, _overrides(cpu=wish.cpu), space.dir, elsewhere=sources.elsewhere)
    _known(wish.models, facts)
    if not sources.facts:
        facts = hub.seen(console, facts, written, _overrides(cpu=wish.cpu), wish.models or None,
                         folder=space.dir, offline=sources.offline, force=wish.force)  # fmt: skip
    running = [] if written is None or sources.elsewhere else _running(written, facts, docker)
    planned = decide_plan(
        space.dir.resolve().name, facts, wish.models or None, _overrides(cpu=wish.cpu),
        written=written, force=wish.force, running=running,
    )  # fmt: skip
    if planned.spec is None:
        return _unwritten(console, wish, plan_report.stays(planned, facts), plan_report.stays_data(planned, facts))
    if written is None and not planned.spec.migrating():
        return _unwritten(console, wish, plan_report.nowhere(planned, facts), plan_report.stays_data(planned, facts))
    flagcheck.require(planned.spec, "the proposal")
    hub.require(planned.spec, facts, str(space.spec_path))
    _fits(planned, facts, space)
    on_hub = hub.lines(console, planned.spec, facts)
    usable = None if sources.elsewhere else docker
    serves = edit.serves(space, planned.spec)
    checked = _write(console, space, planned.spec, facts, usable, planned.proposal, serves=serves)
    journal = open_journal(space, planned.spec)
    before = edit.deployed(space, planned.spec, journal, facts, look=not sources.elsewhere)
    steps = edit.plan_up(console, space, planned.spec, journal, before)
    journal.append("plan", planned.spec.name, str(steps), {**steps.as_dict(), **plan_report.decision(planned)})
    papers = plan_report.papers(planned, facts, checklist=wish.checklist, notice=wish.notice)
    edits = edit.found(planned.spec, journal, before)
    papers = (*plan_report.edits(edits), *papers)
    shown = plan_report.Shown(space, planned, facts, steps, checked=checked, hub=on_hub, extra=papers, kept=serves)
    if wish.out:
        plan_report.save(shown, wish.out)
    console.answer(plan_report.report(shown), plan_report.data(shown))
    return ExitCode.CHANGES if wish.exit_code and steps.steps else ExitCode.DONE


def _unwritten(console: Console, wish: Wish, report: str, data: dict[str, Any]) -> int:
    """Answer without a stack: there is nothing that `up` could do."""
    if wish.out:
        console.emit(Happening(Kind.WARN, "plan", f"{wish.out} was not written: there is no plan to keep"))
    console.answer(report, data)
    return ExitCode.DONE


def _fits(planned: Planned, facts: Facts, space: Workspace) -> None:
    sums = planned.sums
    assert sums is not None
    absent = [line for line in sums.unknown if line.startswith("GPU ")] if facts.gpus else []
    if sums.problems or absent:
        way = remedy(planned.spec, facts, load()) if planned.spec and not absent else ""
        turns = [f"  {line}" for one in planned.handover for line in handover_lines(one)]
        raise MigrateError(
            "the plan does not fit: " + [*sums.problems, *absent][0],
            evidence="\n".join([str(sums), *(["Hand-over", *turns] if turns else [])]),
            hint=f"in {space.spec_path}, this would fit: {way}" if way
            else f"change {space.spec_path}, or take smaller or fewer models", code=ExitCode.GATE,
        )


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
    console: Console, space: Workspace, spec: Spec, facts: Facts, docker: Docker | None, proposal: Proposal | None,
    *, serves: bool,
) -> bool:
    """Render beside the stack, have Compose accept it, then write. Returns whether Compose was asked.

    With `serves` nothing but the facts is written: containers with traffic would follow an edit at once.
    """
    files = render.render(spec, facts)
    usable = docker is not None and facts.docker is not None and not facts.docker.problem
    try:
        if usable and docker is not None:
            _check(files, space, spec, docker)
        space.dir.mkdir(parents=True, exist_ok=True)
        if proposal:
            files = {SPEC_FILE: spec_to_yaml(spec, proposal), **proposal.recipes, **files}
        if not serves:
            render.write(space.dir, files)
        space.save_facts(facts)
    except OSError as error:
        raise MigrateError(
            f"cannot write the stack into {space.dir}: {error.strerror or error}",
            hint="free space, or name a folder you may write: MIGRATE_STACKS=DIR",
        ) from error
    if not usable and docker is not None and facts.docker:
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
