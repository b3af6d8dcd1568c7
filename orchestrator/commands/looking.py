"""The facts of `plan`: from what runs here, or from a file, with whatever evidence of traffic the flags name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.clients.docker import Docker, ollama_port
from orchestrator.console import Console
from orchestrator.decide import evidence
from orchestrator.decide.gpuflag import parse_all
from orchestrator.errors import MigrateError, UsageError
from orchestrator.events import Happening, Kind
from orchestrator.facts import Facts, OllamaFacts, Traffic
from orchestrator.observe import accesslog, factsfile, scan, volume, watch, world
from orchestrator.spec import Spec
from orchestrator.spec_types import seconds

_ENOUGH = 20            # requests, below which a log that nobody named decides nothing
_SPAN_S = 3600.0


@dataclass(frozen=True, slots=True)
class Sources:
    """Where to look, as the flags say it; nothing said: at what runs here."""

    ollama: str | None = None
    facts: str | None = None        # a file of `migrate facts`
    volume: str | None = None       # a folder of models that no server reads
    gpus: tuple[str, ...] = ()      # GPUs to plan for instead of those here
    logs: tuple[str, ...] = ()      # files, folders, or - for standard input
    watch: str | None = None        # how long, such as 10m
    users: int | None = None
    offline: bool = False           # nobody is asked on the Hub; the local cache still tells
    scan: tuple[str, ...] = ()      # source trees of those who call

    @property
    def elsewhere(self) -> bool:
        """Whether the plan is for facts that nothing here can confirm."""
        return self.facts is not None or self.volume is not None or bool(self.gpus)


def look(console: Console, sources: Sources, docker: Docker, written: Spec | None) -> Facts:
    """Freeze the world as the flags ask for it. Raises UsageError when two of them contradict each other."""
    _apart(sources)
    console.emit(Happening(Kind.WAIT, "plan", "looking at Ollama, GPUs and Docker"))
    if sources.facts:
        facts = factsfile.load(Path(sources.facts))
    elif sources.volume:
        facts = _stopped(console, Path(sources.volume), docker)
    else:
        facts = world.look(sources.ollama or (written.ollama.url if written else None), docker)
    if sources.gpus:
        facts = replace(facts, gpus=parse_all(sources.gpus), gpu_problem="", gpu_notes=())
    if sources.scan:
        facts = _callers(console, sources.scan, facts)
    return replace(facts, traffic=_traffic(console, sources, facts, docker))


def _callers(console: Console, paths: tuple[str, ...], facts: Facts) -> Facts:
    console.emit(Happening(Kind.WAIT, "scan", f"reading {', '.join(paths)} for places that talk to Ollama"))
    callers, tally = scan.look(paths)
    if tally.unreadable:
        first = ", ".join(tally.unreadable[:3])
        console.emit(Happening(Kind.WARN, "scan", f"{len(tally.unreadable)} could not be read, such as {first}"))
    return replace(facts, callers=callers, scanned=tally.files)


def _stopped(console: Console, path: Path, docker: Docker) -> Facts:
    models, problems = volume.look(path)
    for problem in problems:
        console.emit(Happening(Kind.WARN, "volume", problem))
    ollama = OllamaFacts(url="http://127.0.0.1:11434", version="", models=models)
    return replace(world.machine(docker), ollama=ollama)


def _apart(sources: Sources) -> None:
    if sources.volume and (sources.facts or sources.ollama or sources.watch):
        raise UsageError("--volume reads an Ollama that does not run: no server and no file of facts",
                         hint="leave out --facts, --ollama and --watch")  # fmt: skip
    if sources.facts and (sources.ollama or sources.watch):
        raise UsageError("--facts plans for another machine: nothing here is looked at",
                         hint="leave out --ollama and --watch")  # fmt: skip
    named = [flag for flag, value in (("--log", sources.logs), ("--watch", sources.watch),
                                      ("--users", sources.users is not None)) if value]  # fmt: skip
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)} each say how much traffic there is", hint="give one of them")


def _traffic(console: Console, sources: Sources, facts: Facts, docker: Docker) -> Traffic:
    if sources.logs:
        return accesslog.look(sources.logs)
    if sources.users is not None:
        return evidence.stated(sources.users)
    container = facts.ollama.container
    if sources.watch is not None:
        return _watched(console, _seconds(sources.watch), facts, docker)
    if container is None or sources.facts:
        return facts.traffic
    console.emit(Happening(Kind.WAIT, "plan", f"reading the log of container {container.name}"))
    try:
        found = accesslog.container(docker, container.name)
    except MigrateError as error:
        console.emit(Happening(Kind.WARN, "log", f"the log of {container.name} cannot be read: {error.message}"))
        return facts.traffic
    return found if found.requests >= _ENOUGH and found.seconds >= _SPAN_S else _thin(found)


def _thin(found: Traffic) -> Traffic:
    """Say that there is a log, and that too little is in it to decide by: a container may be minutes old."""
    note = (f"{found.origin}: {found.requests} requests in {found.seconds / 60:.0f} min are too few to decide by; "
            f"at least {_ENOUGH} requests over {_SPAN_S / 3600:.0f} h are needed")  # fmt: skip
    return Traffic(origin=found.origin, lines=found.lines, largest_context=found.largest_context, notes=(note,))


def _seconds(text: str) -> float:
    try:
        found = float(seconds(text))
    except ValueError:
        found = 0.0
    if not 1 <= found <= 7 * 86400:
        raise UsageError(f"--watch {text}: should be a duration from 1s to 168h", hint="such as: --watch 10m")
    return found


def _watched(console: Console, span: float, facts: Facts, docker: Docker) -> Traffic:
    container = facts.ollama.container
    port = container.port if container else urlsplit(facts.ollama.url).port or 80

    def tell(left: float) -> None:
        console.emit(Happening(Kind.WAIT, "watch", f"sampling open connections, {left:.0f} s left"))

    if container is None:
        return watch.look(facts.ollama.url, port, span, tell=tell)
    # Inside its own network namespace: on the host Docker's rules hide connections to a published port.
    inside = docker.inspect(container.id)

    def tables() -> str:
        return docker.exec(container.id, ["cat", "/proc/net/tcp", "/proc/net/tcp6"])

    return watch.look(facts.ollama.url, ollama_port(inside), span, tables=tables, tell=tell)
