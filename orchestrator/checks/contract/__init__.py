"""The contract between a server and its callers, probed on both sides and joined with what callers really use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from orchestrator.checks import Side, Verdict
from orchestrator.checks.contract.probes import Kind, Probe, load_probes
from orchestrator.checks.contract.rules import judge
from orchestrator.checks.contract.run import Run
from orchestrator.checks.contract.usage import Usage, usage_of

__all__ = ["Usage", "check_contract", "load_probes", "recompute", "usage_of"]
Progress = Callable[[int, int, str], None]


def check_contract(
    old: Side,
    new: Side,
    model: str,
    *,
    used: Usage | None = None,
    kind: Kind = "generate",
    probes: Sequence[Probe] | None = None,
    skip: Sequence[str] = (),
    timeout_s: float = 120.0,
    progress: Progress | None = None,
) -> tuple[Verdict, list[dict[str, Any]]]:
    """Probe both sides and judge; returns the verdict and its raw lines.

    `skip`: groups that are left out. `progress` gets (done, of, probe) and may end the check by raising.
    """
    run = Run(old, new, model, kind, tuple(load_probes() if probes is None else probes), tuple(skip), progress)
    asyncio.run(run.ask(used or Usage(), timeout_s))
    return recompute(run.lines), run.lines


def recompute(lines: Iterable[Mapping[str, Any]]) -> Verdict:
    """The verdict from the raw lines alone."""
    return judge(lines)
