"""Runs a port swap in a process of its own, which outlives the terminal and the command that started it.

`start` writes what to do and detaches the helper; `follow` waits for its outcome, attaches again when called again,
and restarts a helper that died. Files in STACK/.state: swap.json (what to do), swap.lock (kernel lock, names the
helper's pid), swap.jsonl (progress), swap-result.json (outcome, written whole), swap.log (a crash's traceback).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orchestrator
from orchestrator.clients.docker import Docker
from orchestrator.errors import MigrateError, NeedsHuman, WrongState
from orchestrator.steps.swap import Swap, add_up, outcome_counts
from orchestrator.steps.swap_files import SwapFiles
from orchestrator.steps.swap_plan import SwapPlan, SwapResult
from orchestrator.steps.swap_probe import Prober

RESTARTS = 3
START_S = 15.0
TIDY_WAITS_S = (1, 3, 10)
OnEvent = Callable[[dict[str, Any]], None]


def start(stack_dir: Path, plan: SwapPlan) -> str:
    """Asks for a swap and detaches its helper; the swap's id.

    An unfinished swap with the same plan is continued; WrongState when one with another plan is unfinished.
    """
    files = SwapFiles(stack_dir)
    files.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    last = files.read_plan()
    if last and files.read_result(last[0]) is None:
        if last[1] != plan:
            raise WrongState(
                f"Another port swap of this stack is unfinished (asked for in {files.plan})",
                hint="Run the command that began it again: it continues.",
            )
        swap_id = last[0]
    else:
        swap_id = uuid.uuid4().hex[:12]
        files.events.unlink(missing_ok=True)
        files.write(files.plan, json.dumps({"id": swap_id, "plan": json.loads(plan.dumps())}, indent=1))
    if files.holder() is None:
        detach(files, stack_dir)
    return swap_id


def unfinished(stack_dir: Path) -> SwapPlan | None:
    """The plan of a swap that was begun and has no outcome yet."""
    files = SwapFiles(stack_dir)
    last = files.read_plan()
    return last[1] if last and files.read_result(last[0]) is None else None


def last(stack_dir: Path) -> tuple[SwapPlan, SwapResult] | None:
    """The last swap that came to an end."""
    files = SwapFiles(stack_dir)
    asked = files.read_plan()
    result = files.read_result(asked[0]) if asked else None
    return (asked[1], result) if asked and result else None


def follow(stack_dir: Path, on_event: OnEvent) -> SwapResult:
    """Waits for the outcome of the swap asked for last; MigrateError (undone) or NeedsHuman (stuck) tells why."""
    files = SwapFiles(stack_dir)
    last = files.read_plan()
    if last is None:
        raise WrongState("No port swap was asked for in this stack")
    seen, restarts, quiet_since = 0, 0, time.monotonic()
    while True:
        result = files.read_result(last[0])
        for event in files.read_events(seen):
            seen += 1
            on_event(event)
        if result:
            return judged(result)
        if files.holder() is not None:
            quiet_since = time.monotonic()
        elif time.monotonic() - quiet_since > START_S / 10:
            restarts += 1
            if restarts > RESTARTS:
                raise NeedsHuman("The helper of the port swap keeps dying", evidence=files.last_log())
            detach(files, stack_dir)
            quiet_since = time.monotonic()
        time.sleep(0.1)


def judged(result: SwapResult) -> SwapResult:
    if result.outcome == "undone":
        raise MigrateError(f"The port stays where it was: {result.error}", hint=result.hint, evidence=result.evidence)
    if result.outcome == "stuck":
        raise NeedsHuman(
            f"The port swap failed and so did the way back: {result.error}",
            hint=result.hint or "Run the same command again: it continues.",
            evidence=result.evidence,
        )
    return result


def detach(files: SwapFiles, stack_dir: Path) -> None:
    """Starts the helper in a session of its own, free of this process and its terminal."""
    package = str(Path(orchestrator.__file__).parent.parent)
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    with files.private(files.log, os.O_APPEND) as log:
        begun = subprocess.run(
            [sys.executable, "-m", "orchestrator.steps.swap_helper", str(stack_dir.resolve())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
            check=False,
        )
    if begun.returncode:
        raise MigrateError("The helper of the port swap cannot start", evidence=files.last_log())
    until = time.monotonic() + START_S
    while files.holder() is None and time.monotonic() < until:
        last = files.read_plan()
        if last and files.read_result(last[0]):
            return
        time.sleep(0.02)


def work(files: SwapFiles) -> None:
    """Does the swap asked for and writes its outcome; the lock is held."""
    asked = files.read_plan()
    if asked is None or files.read_result(asked[0]):
        return
    swap_id, plan = asked
    began, earlier = time.monotonic(), counts_of_attempts(files.read_events())
    prober = Prober(plan.probe_host, plan.port)

    def say(step: str, text: str) -> None:
        counts = outcome_counts(swap.counts, prober.stats())
        files.append({"ts": round(time.time(), 3), "id": swap_id, "step": step, "text": text, "counts": counts})

    swap = Swap(plan, Docker(), prober, say)
    say("begin", f"helper {os.getpid()} at work" + (f", attempt {len(earlier) + 1}" if earlier else ""))
    prober.start()
    outcome = carry_out(swap, say)
    attempts = [*earlier, outcome_counts(swap.counts, prober.stop())]
    took_s = round(time.monotonic() - began, 3)
    result = SwapResult(id=swap_id, attempts=len(attempts), took_s=took_s, **outcome, **add_up(attempts))
    say("end", result.outcome)
    files.write(files.result, result.dumps())


def counts_of_attempts(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last counts of each helper that was at this swap before."""
    last: list[dict[str, Any]] = []
    for event in events:
        if event["step"] == "begin":
            last.append({})
        last[-1] = event["counts"]
    return last


def carry_out(swap: Swap, say: Callable[[str, str], None]) -> dict[str, Any]:
    """Runs the swap; undoes it when it fails. The outcome and, when it is not "moved", why."""
    try:
        swap.run()
    except Exception as failed:  # noqa: BLE001 - whatever it was, clients must be answered: go back
        why = failed if isinstance(failed, MigrateError) else MigrateError(f"{type(failed).__name__}: {failed}")
        say("failed", why.message)
    else:
        return {"outcome": "moved"}
    if swap.handed_over:
        return {"outcome": "moved", **tidied(swap, why)}
    told = {"error": why.message, "hint": why.hint, "evidence": why.evidence}
    try:
        swap.undo()
    except Exception as undo_failed:  # noqa: BLE001 - both errors are told
        return {**told, "outcome": "stuck", "error": f"{why.message}; going back: {undo_failed}"}
    return {**told, "outcome": "undone"}


def tidied(swap: Swap, why: MigrateError) -> dict[str, Any]:
    """Tries again to tidy up: no reason to go back, clients are served. What to tell when it cannot be done."""
    for wait_s in TIDY_WAITS_S:
        time.sleep(wait_s)
        try:
            swap.tidy()
        except MigrateError as failed:
            why = failed
        else:
            return {}
    hint = f"Remove the temporary gateway: docker rm -f {swap.plan.temp.name}"
    return {"error": why.message, "hint": hint, "evidence": why.evidence}


def main(stack_dir: str) -> None:
    """Forks twice, so that no terminal and no parent can end it, then works."""
    for new_session in (True, False):
        if os.fork():
            os._exit(0)
        if new_session:
            os.setsid()
    for ignored in (signal.SIGHUP, signal.SIGINT):
        signal.signal(ignored, signal.SIG_IGN)
    files = SwapFiles(Path(stack_dir))
    with files.held() as ours:
        if ours:
            work(files)


if __name__ == "__main__":
    main(sys.argv[1])
