"""What a changing command needs: the stack's context, its lock, its signals, and a yes where one is due."""

from __future__ import annotations

import dataclasses
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.clients.docker import Compose, Docker
from orchestrator.clients.gateway import Gateway
from orchestrator.console import Console
from orchestrator.errors import ExitCode, MigrateError, UsageError
from orchestrator.events import Emit, Happening, Kind
from orchestrator.flags import Common
from orchestrator.journal import Journal
from orchestrator.observe import guard
from orchestrator.observe.guard import GuardEvent
from orchestrator.plan import Plan, Step
from orchestrator.render import GUARD_NOTES
from orchestrator.runner import run_plan
from orchestrator.spec import Spec
from orchestrator.steps import Action, Context
from orchestrator.steps.registry import build
from orchestrator.stop import Interrupted, Stop
from orchestrator.workspace import SPEC_FILE, Workspace, stack_name, stacks_dir

OVERRIDE = "compose.override.yaml"


def workspace(common: Common, *, new: bool = False) -> Workspace:
    """Return the stack's folder, from --file, --stack, $MIGRATE_STACK, or the only one there is."""
    if common.file:
        path = Path(common.file)
        if path.name != SPEC_FILE and not path.is_dir():
            raise UsageError(f"{path}: a stack's file is called {SPEC_FILE}", hint="name it, or its folder")
        folder = path if path.is_dir() else path.parent
        if common.stack and common.stack != folder.resolve().name:
            raise UsageError("--file and --stack name different stacks", hint="give one of them")
        return Workspace(folder)
    return Workspace(stacks_dir() / stack_name(common.stack, new=new))


def open_journal(space: Workspace, spec: Spec, *, create: bool = True) -> Journal:
    """Open the stack's journal and tell it the spec's names."""
    journal = Journal(space.state_dir, create=create)
    know(journal, spec)
    hear_guard(space, journal)
    return journal


def hear_guard(space: Workspace, journal: Journal) -> list[GuardEvent]:
    """Take over into the journal what the guard has written down meanwhile, each event once; return the new ones.

    A journal that cannot be written now, for the disk is full, takes them over later: looking needs no room.
    """
    try:
        return journal.take_over("guard", guard.look(space.dir / GUARD_NOTES))
    except MigrateError:
        return []


def know(journal: Journal, spec: Spec) -> None:
    """Tell the journal which routes and engines there are: states are derived for these."""
    routes = {model: route.engine is not None for model, route in spec.routes.items()}
    journal.known(routes, tuple(spec.engines))


def tell_guard(console: Console, heard: list[GuardEvent], most: int = 3) -> None:
    """Say what the guard has taken traffic from since the last command."""
    grave = [one for one in heard if one.grave]
    for one in grave[-most:]:
        console.emit(Happening(Kind.WARN, "guard", f"{clock(one.at)}: {one.text}"))
    if len(grave) > most:
        console.emit(Happening(Kind.NOTE, "guard", f"and {len(grave) - most} more before; see: migrate status --json"))


def gateway_of(space: Workspace, spec: Spec) -> Gateway:
    """Return the client of the stack's control door."""
    return Gateway(f"http://127.0.0.1:{spec.gateway.control_port}", space.token())


def compose_of(space: Workspace, spec: Spec, docker: Docker) -> Compose:
    """Return the stack's Compose project, with the user's override file if there is one."""
    files = [space.dir / "compose.yaml"]
    if (space.dir / OVERRIDE).exists():
        files.append(space.dir / OVERRIDE)
    return docker.compose(f"migrate-{spec.name}", space.dir, files)


def context_of(space: Workspace, spec: Spec, journal: Journal, emit: Emit, stop: Stop) -> Context:
    """Return what the steps of a stack work with."""
    docker = Docker()
    return Context(
        spec=spec,
        dir=space.dir.resolve(),
        docker=docker,
        compose=compose_of(space, spec, docker),
        gateway=gateway_of(space, spec),
        journal=journal,
        emit=emit,
        stop=stop,
        facts=space.facts(),
    )


class Session:
    """One run of one command on one stack."""

    def __init__(self, console: Console, common: Common, *, yes: bool) -> None:
        self.console = console
        self.space = workspace(common)
        self.spec = self.space.spec()
        self.journal = Journal(self.space.state_dir, create=False)
        know(self.journal, self.spec)
        tell_guard(console, hear_guard(self.space, self.journal))
        self.stop = Stop(console.emit)
        self.yes = yes
        self.context = context_of(self.space, self.spec, self.journal, self._emit, self.stop)

    def follow(self, spec: Spec) -> None:
        """Go on with another spec of the same stack."""
        self.spec = spec
        self.context = dataclasses.replace(self.context, spec=spec)

    def require_docker(self) -> None:
        """Raise what is wrong with Docker before a command that needs it begins; shifting traffic does not."""
        self.context.docker.require()

    @contextmanager
    def running(self, command: str, *, wait_s: float = 0, exclusive: bool = True) -> Iterator[None]:
        """Hold the stack, listen to signals, and close the run in the journal whatever happens."""
        with self.stop.listening():
            if exclusive:
                with self.journal.exclusive(command, wait_s), self._closed():
                    yield
            else:
                self.journal.begin(command)
                with self._closed():
                    yield

    @contextmanager
    def _closed(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            code = error.exit_code if isinstance(error, MigrateError) else ExitCode.INTERRUPTED
            self.journal.end(str(error) or type(error).__name__, int(code))
            raise
        self.journal.end("done", 0)

    def need_yes(self, plan: Plan) -> None:
        """Refuse at once when a yes is needed and nobody can give it."""
        waiting = [step for step in plan.steps if step.touches_live]
        if waiting and not self.yes and not sys.stdin.isatty():
            raise UsageError(
                f"{waiting[0]} touches live traffic and there is no terminal to ask on", hint="say yes with --yes"
            )

    def run(self, plan: Plan) -> None:
        """Run a plan; refuses before its first step what nobody can say yes to."""
        self.need_yes(plan)
        run_plan(plan, self._build, self.journal, self._emit, self.stop, self._confirm)

    def _build(self, step: Step) -> Action:
        return build(step, self.context)

    def _confirm(self, step: Step) -> None:
        self._emit(Happening(Kind.NOTE, str(step), f"{step.cause}; {step.note}" if step.note else step.cause))
        if self.yes:
            return
        if not self.agreed(f"Go on with {step}?"):
            raise MigrateError("not confirmed; this step changed nothing", hint="run it again when it suits")
        self.stop.check()

    def agreed(self, question: str) -> bool:
        """Ask a person on the terminal; raises Interrupted for Ctrl-C."""
        self.console.done()
        print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)  # noqa: T201
        return self._answer() in ("y", "yes")

    def _answer(self) -> str:
        # Waiting for a person is a safe point: here Ctrl-C means no, at once.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return sys.stdin.readline().strip().lower()
        except KeyboardInterrupt:
            print(file=sys.stderr)  # noqa: T201
            raise Interrupted("interrupted; this step changed nothing", hint="run it again when it suits") from None
        finally:
            signal.signal(signal.SIGINT, before)

    def _emit(self, event: Happening) -> None:
        if event.kind in (Kind.NOTE, Kind.WARN):
            self.journal.append(str(event.kind), event.subject, event.text, event.data)
        self.console.emit(event)


def clock(at: float) -> str:
    """Return a time of day, with the date when it is not today's."""
    moment = time.localtime(at)
    today = time.strftime("%Y%m%d") == time.strftime("%Y%m%d", moment)
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M", moment)
