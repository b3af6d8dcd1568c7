"""`migrate load`: a load test by hand. It asks before it loads a live Ollama, is bounded, and stops when it hurts."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx

from orchestrator import __version__
from orchestrator.checks.loaddoor import door_latency
from orchestrator.checks.loadlive import GatewayWatch, LiveBound, ProbeWatch, one_token
from orchestrator.checks.loadplan import LoadPlan
from orchestrator.checks.loadrun import stream_load
from orchestrator.checks.loadsummary import summarise, to_csv
from orchestrator.commands.load_plan import Asked, plan_of, sides_of, worst_case
from orchestrator.commands.load_text import text
from orchestrator.commands.session import Session
from orchestrator.console import Console
from orchestrator.errors import ExitCode, MigrateError, UsageError
from orchestrator.events import Kind
from orchestrator.flags import Common
from orchestrator.names import file_name
from orchestrator.state import StackState
from orchestrator.stop import Interrupted


def load(console: Console, common: Common, *, yes: bool, dry_run: bool, asked: dict[str, Any]) -> int:
    """Run a load test and keep every sample; exit 3 where it was stopped because live users were hurt."""
    session = Session(console, common, yes=yes)
    wish = Asked(**asked)
    through = _gateway_up(session)
    plan = plan_of(session, wish, sides_of(session, wish, through=through))
    what = worst_case(plan)
    if dry_run:
        console.answer(what, {"result": "dry-run", "text": what, "levels": [one.label for one in plan.levels]})
        return ExitCode.DONE
    if any(side.name == "ollama" for side in plan.sides):
        _ask(session, plan, what)
    with session.running("load"):
        return _run(session, plan, wish, through=through)


def _run(session: Session, plan: LoadPlan, wish: Asked, *, through: bool) -> int:
    path = _place(session, plan, wish.out)
    engine = session.spec.routes[plan.model].engine
    seqs = session.spec.engines[engine].max_num_seqs if engine else None
    door = _door(session, plan) if through else None
    with _watching(session, plan, wish, through=through) as watch, closing(_Raw(path)) as raw:
        raw.put({"kind": "plan", "check": "load-test", "target": plan.model, "at": time.time(), "tool": __version__,
                 "max_num_seqs": seqs, **plan.shown()})  # fmt: skip
        if door:
            raw.put({"kind": "door", **door})
        stream_load(plan, raw.put, lambda seen: _look(session, seen, watch))
    summary = summarise(_lines(path))
    table = path.with_suffix(".csv")
    table.write_text(to_csv(summary), encoding="utf-8")
    _tell(session, plan, summary, path)
    session.stop.check()
    return ExitCode.GATE if watch and watch.hurt else ExitCode.DONE


def _tell(session: Session, plan: LoadPlan, summary: dict[str, Any], path: Path) -> None:
    ran = ", ".join(dict.fromkeys(one["level"] for one in summary["levels"])) or "nothing"
    said = f"{ran} on {' and '.join(side.name for side in plan.sides)}"
    session.journal.append("load-test", plan.model, summary["stopped"] or said, {"raw": str(path)})
    files = {"raw": str(path), "csv": str(path.with_suffix(".csv"))}
    session.console.answer(f"{text(summary)}\n\nsamples {path}\ntable   {files['csv']}", {**summary, "files": files})


class _Watch:
    """What looks after live users, and whether it ended the test."""

    def __init__(self, inner: GatewayWatch | ProbeWatch) -> None:
        self.inner = inner
        self.hurt = ""

    def check(self) -> str:
        self.hurt = self.hurt or self.inner.check()
        return self.hurt


def _look(session: Session, seen: dict[str, Any], watch: _Watch | None) -> str:
    place = f"{seen.get('level', 'warm-up')} on {seen['side']}"
    session.context.say("load", f"{place}: {seen['done']} of {seen['of']}", Kind.WAIT, reason=place)
    try:
        session.stop.check()
    except Interrupted:
        return "interrupted"    # what was measured so far is kept
    return watch.check() if watch else ""


@contextmanager
def _watching(session: Session, plan: LoadPlan, wish: Asked, *, through: bool) -> Iterator[_Watch | None]:
    """Look after live users while the test runs; nobody where it was asked for nobody."""
    factor = session.spec.load.live_factor if wish.live_factor is None else wish.live_factor
    if not factor:
        yield None
        return
    bound = LiveBound(factor)
    if through and session.journal.states().stack is StackState.TAKEN_OVER:
        before, offset = session.context.gateway.log_tail()
        watch = GatewayWatch(session.context.gateway.log, offset, before, bound)
        session.context.say("load", f"watching {watch.live} live requests of before: {bound}")
        yield _Watch(watch)
        return
    if all(side.name != "ollama" for side in plan.sides):
        yield None
        return
    with _probing(session, plan, bound) as probe:
        yield _Watch(probe)


@contextmanager
def _probing(session: Session, plan: LoadPlan, bound: LiveBound) -> Iterator[ProbeWatch]:
    url = session.spec.ollama.url
    probe = ProbeWatch(one_token(url, plan.model, {}), bound)
    try:
        probe.begin()
    except httpx.HTTPError as error:
        raise MigrateError(f"Ollama at {url} does not answer for {plan.model}", evidence=str(error),
                           hint="start it, or test the other side: --side vllm") from error  # fmt: skip
    session.context.say("load", f"asking Ollama for a token now and then: {bound}; without users: --live-factor 0")
    try:
        yield probe
    finally:
        probe.end()


def _gateway_up(session: Session) -> bool:
    try:
        session.context.gateway.status()
    except MigrateError:
        return False
    return True


def _door(session: Session, plan: LoadPlan) -> dict[str, Any] | None:
    """What the checks' own door adds, measured on Ollama's version: it generates nothing."""
    taken = session.journal.states().stack is StackState.TAKEN_OVER
    gateway, old = session.spec.gateway, next((side for side in plan.sides if side.name == "ollama"), None)
    side = old or sides_of(session, Asked(side="ollama", model=plan.model), through=True)[0]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(gateway.listen, gateway.listen)
    url = f"http://{host}:{gateway.port}" if taken else session.spec.ollama.url
    found = door_latency(url, side)
    return {**found, "beside": "the gateway's public door" if taken else "Ollama itself"} if found else None


def _ask(session: Session, plan: LoadPlan, what: str) -> None:
    """A person says yes to what loads a live Ollama."""
    if session.yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("this loads a live Ollama and there is no terminal to ask on",
                         evidence=what, hint="say yes with --yes, or test the other side: --side vllm")  # fmt: skip
    if not session.agreed(f"{what}\nOllama at {session.spec.ollama.url} serves {plan.model} live. Go on?"):
        raise MigrateError("not confirmed; nothing was sent", hint="run it again when it suits")


def _place(session: Session, plan: LoadPlan, out: str | None) -> Path:
    if out:
        path = Path(out)
        path = path / _file(plan) if path.is_dir() else path.with_suffix(".jsonl")
    else:
        path = session.context.dir / "report" / _file(plan)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", hint="choose another place: --out FILE") from None
    return path


def _file(plan: LoadPlan) -> str:
    return f"load-test-{file_name(plan.model)}-{time.strftime('%Y%m%dT%H%M%S')}.jsonl"


class _Raw:
    """The raw lines, written as they come; readable by their owner alone."""

    def __init__(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
            path.touch(mode=0o600)
            self._file = path.open("w", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}",
                             hint="choose another place: --out FILE") from None  # fmt: skip

    def put(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        self._file.close()


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
