"""Runs the load process and hands on each line as it comes, so that nothing has to be held."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import IO, Any

from orchestrator.checks.loadplan import LoadPlan
from orchestrator.errors import MigrateError

Line = dict[str, Any]


def stream_load(plan: LoadPlan, sink: Callable[[Line], None], watch: Callable[[Line], str] | None = None) -> None:
    """Run the plan in a process of its own; `sink` gets every line with its kind, progress apart.

    kinds: warmup, request, level, stopped (`reason`: the test ended early). `watch` gets the progress, {phase, side,
    users, level, repeat, done, of}, about twice a second; what it returns, if anything, is why to stop: what was
    measured until then still comes. It may also raise. MigrateError if the process fails.
    """
    with tempfile.TemporaryFile("w+") as errors:
        # A session of its own: Ctrl-C is for us, and our leaving ends it.
        child = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.checks.loadclient"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            ended = _read(child, plan, sink, watch)
        finally:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        if not ended:
            raise MigrateError("The load process ended early", evidence=_tail(errors),
                               hint="run it again; with -v it tells more")  # fmt: skip


def _read(
    child: subprocess.Popen[str], plan: LoadPlan, sink: Callable[[Line], None], watch: Callable[[Line], str] | None
) -> bool:
    assert child.stdin is not None
    assert child.stdout is not None
    _say(child.stdin, json.dumps(plan.to_json()))
    stopping = False
    for text in child.stdout:
        line = json.loads(text)
        if line["kind"] == "end":
            return True
        if line["kind"] != "progress":
            sink(line)
        elif watch and not stopping:
            reason = watch(line)
            if reason:
                stopping = True
                _say(child.stdin, "stop " + " ".join(reason.split()))
    return False


def _say(pipe: IO[str], text: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        pipe.write(text + "\n")
        pipe.flush()


def _tail(errors: IO[str]) -> str:
    errors.seek(0)
    return "".join(errors.readlines()[-5:])
