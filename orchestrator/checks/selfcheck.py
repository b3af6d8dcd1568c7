"""How true the load client's figures are on this machine: measured against a server that knows what it sent, and when.

Error of a first token: the client's TTFT minus (server's first send - request read). Error of a gap: the client's minus
the server's, without sign. A pass in which the server itself was late was the machine's stall: it is repeated.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from orchestrator.checks import Side
from orchestrator.checks.loadplan import LoadPlan
from orchestrator.checks.loadrun import stream_load
from orchestrator.checks.loadshape import Level
from orchestrator.stats import percentile

# The server's own p99 beyond this means that the machine stalled (ms).
STALL_MS = 5.0
_SLACK = 3      # attempts per pass
Truth = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Trial:
    """One measurement: streams that start together, the server's gap (ms), and tokens per stream."""

    name: str
    streams: int
    gap_ms: float = 20.0
    tokens: int = 64
    ttft_ms: float = 200.0
    lockstep: bool = False


TRIALS = (
    Trial("a few streams", 16),
    Trial("many streams", 256),
    Trial("many streams in step", 256, lockstep=True),
    Trial("full rate", 256, gap_ms=9.0, tokens=128),
)


@contextmanager
def known_server(trial: Trial, log: Path, *extra: str) -> Iterator[str]:
    """A server of known timing in a process of its own; its log is complete when it has ended."""
    command = [sys.executable, "-m", "orchestrator.checks.timingserver", "--log", str(log),
               "--ttft-ms", str(trial.ttft_ms), "--gap-ms", str(trial.gap_ms), *extra]  # fmt: skip
    command += ["--lockstep"] if trial.lockstep else []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
            server.stdin.close()
            server.wait(30)
        finally:
            server.kill()


def measure(trial: Trial) -> dict[str, Any]:
    """One pass of a trial: `figures` of what client and server say."""
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "server.jsonl"
        with known_server(trial, log) as url:
            plan = LoadPlan((Side("vllm", url),), "known", (Level(trial.streams, trial.streams),),
                            max_tokens=trial.tokens, warmup=1, poll_s=0.0, timeout_s=60.0)  # fmt: skip
            stream_load(plan, lines.append)
        with log.open(encoding="utf-8") as file:
            truth = {one["mark"]: one for one in map(json.loads, file)}
    return {"name": trial.name, "streams": trial.streams, **figures(plan, lines, truth)}


def repeated(trial: Trial, passes: int) -> list[dict[str, Any]]:
    """Passes of a trial in which the machine did not stall; fewer than asked where it would not stop stalling."""
    found: list[dict[str, Any]] = []
    for _ in range(passes * _SLACK):
        one = measure(trial)
        if not one["stalled"]:
            found.append(one)
        if len(found) == passes:
            break
    return found


def figures(plan: LoadPlan, lines: Iterable[Mapping[str, Any]], truth: Truth) -> dict[str, Any]:
    """{n, ttft_error_ms: {p50, p99}, itl_error_ms: {p50, p99}, chunks_per_s, cpu_us_per_chunk, ..., stalled}.

    `lines` are those of the load process, `truth` the server's answers by mark. Pure. Errors of TTFT are signed
    (median) and without sign (p99).
    """
    lines = list(lines)
    first, gaps, late, wrong = [], [], [], 0
    for sample in (line for line in lines if line["kind"] == "request"):
        known = truth.get(plan.mark(sample["key"]))
        if known is None or sample["outcome"] != "complete" or len(sample["token_us"]) != len(known["sent_ns"]):
            wrong += 1
            continue
        stamps, sent = sample["token_us"], known["sent_ns"]
        first.append(stamps[0] / 1000 - (sent[0] - known["read_ns"]) / 1e6)
        gaps += [abs((b - a) / 1000 - (d - c) / 1e6)
                 for (a, b), (c, d) in zip(pairwise(stamps), pairwise(sent), strict=True)]  # fmt: skip
        late += [(at - due) / 1e6 for at, due in zip(sent, known["due_ns"], strict=True)]
    level = next((line for line in lines if line["kind"] == "level"), None)
    if not first or level is None:
        return {"n": 0, "wrong": wrong, "stalled": True}
    busy = _busy_s(truth, plan, lines)
    return {
        "n": len(first),
        "wrong": wrong,
        "ttft_error_ms": {"p50": percentile(first, 50), "p99": percentile([abs(one) for one in first], 99)},
        "itl_error_ms": {f"p{q}": percentile(gaps, q) if gaps else 0.0 for q in (50, 99)},
        "chunks_per_s": sum(len(line["token_us"]) for line in lines if line["kind"] == "request") / busy if busy else 0,
        "cpu_us_per_chunk": level["cpu_s"] / max(1, level["chunks"]) * 1e6,
        "cpu_share": level["cpu_share"],
        "loop_lag_p99_ms": level["loop_lag_p99_ms"],
        "peak_rss_mb": level["peak_rss_mb"],
        "server_late_p99_ms": percentile(late, 99),
        "stalled": percentile(late, 99) > STALL_MS,
    }


def _busy_s(truth: Truth, plan: LoadPlan, lines: Sequence[Mapping[str, Any]]) -> float:
    """The time in which the server sent tokens of the level, s."""
    keys = [line["key"] for line in lines if line["kind"] == "request"]
    sent = [one["sent_ns"] for key in keys if (one := truth.get(plan.mark(key))) and one["sent_ns"]]
    return (max(one[-1] for one in sent) - min(one[0] for one in sent)) / 1e9 if sent else 0.0
