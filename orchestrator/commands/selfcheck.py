"""`migrate selfcheck`: how far the load test's figures can be trusted on this machine."""

from __future__ import annotations

from statistics import median
from typing import Any

from orchestrator.checks.selfcheck import STALL_MS, TRIALS, repeated
from orchestrator.console import Console
from orchestrator.errors import ExitCode, Inconclusive
from orchestrator.events import Happening, Kind
from orchestrator.flags import Common

_SHOWN = ("chunks_per_s", "cpu_us_per_chunk", "cpu_share", "loop_lag_p99_ms", "peak_rss_mb", "server_late_p99_ms")


def selfcheck(console: Console, common: Common, *, passes: int = 3) -> int:
    """Measure the load client against a server of known timing; needs no stack. Inconclusive if the machine stalls."""
    del common
    rows = []
    for trial in TRIALS:
        said = f"{trial.name}: {trial.streams} streams"
        console.emit(Happening(Kind.WAIT, "selfcheck", said, {"reason": said}))
        found = repeated(trial, passes)
        if found:
            rows.append({"name": trial.name, "streams": trial.streams, "gap_ms": trial.gap_ms, "passes": len(found),
                         **summary(found)})  # fmt: skip
    if not rows:
        raise Inconclusive("the machine stalled in every pass, so nothing was measured",
                           evidence=f"the server itself was more than {STALL_MS:g} ms late (p99)",
                           hint="run it again when the machine is quieter")  # fmt: skip
    console.answer(text(rows), {"result": "done", "trials": rows, "left_out": len(TRIALS) - len(rows)})
    return ExitCode.DONE


def summary(passes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return medians over the passes of one trial."""
    errors = {
        kind: {q: median(one[kind][q] for one in passes) for q in ("p50", "p99")}
        for kind in ("ttft_error_ms", "itl_error_ms")
    }
    return errors | {name: median(one[name] for one in passes) for name in _SHOWN}


def text(rows: list[dict[str, Any]]) -> str:
    """Return the table, within 80 columns."""
    lines = ["error of the load test's own figures on this machine, ms (p50 / p99)", "",
             f"  {'streams that start together':31}{'TTFT':>14}{'ITL':>14}{'chunks/s':>10}{'CPU µs':>8}"]  # fmt: skip
    for row in rows:
        first, gap = (f"{row[kind]['p50']:.2f} / {row[kind]['p99']:.2f}" for kind in ("ttft_error_ms", "itl_error_ms"))
        name = f"{row['streams']:>3}, {row['name']}"
        lines.append(f"  {name:31}{first:>14}{gap:>14}{row['chunks_per_s']:>10,.0f}{row['cpu_us_per_chunk']:>8.1f}")
    if len(rows) < len(TRIALS):
        lines.append(f"  {len(TRIALS) - len(rows)} left out: the machine stalled each time")
    return "\n".join([*lines, "", "against a server that stamps what it sends; CPU of this client per chunk"])
