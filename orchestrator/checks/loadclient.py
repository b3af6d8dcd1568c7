"""The load process: `python -m orchestrator.checks.loadclient`, plan (one line of JSON) in, JSON lines out.

A process of its own, so that no progress bar delays a stamp. While a level runs nothing is parsed, logged or
collected; answers are read between levels. A line `stop REASON` on stdin ends the test with what was measured so far;
the end of stdin, as when the parent is gone, ends the process at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import stat
import sys
from contextlib import suppress

from orchestrator.checks.loaddriver import LoadClient, emit
from orchestrator.checks.loadplan import LoadPlan


def _listen(client: LoadClient) -> None:
    """The parent holds the other end of stdin; when it is gone, however it went, so are we."""
    descriptor = sys.stdin.fileno()
    if stat.S_ISFIFO(os.fstat(descriptor).st_mode):

        def heard() -> None:
            said = os.read(descriptor, 4096)
            if not said:
                os._exit(3)
            for line in said.decode("utf-8", "replace").splitlines():
                word, _, rest = line.partition(" ")
                if word == "stop":
                    client.stop(rest or "stopped")
                elif word == "go":
                    client.go(int(rest))

        asyncio.get_running_loop().add_reader(descriptor, heard)


def _raise_file_limit() -> None:
    """A connection is a file: as many as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(plan: LoadPlan) -> None:
    client = LoadClient(plan)
    _listen(client)
    await client.run()
    emit({"kind": "end"})


def main() -> None:
    plan = LoadPlan.from_json(json.loads(sys.stdin.buffer.readline()))
    _raise_file_limit()
    try:
        asyncio.run(_serve(plan))
    except BrokenPipeError:
        os._exit(3)  # the parent has gone


if __name__ == "__main__":
    main()
