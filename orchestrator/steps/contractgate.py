"""What is compared before the answers: the prompts that both sides make, and what callers rely on.

Both run within the parity step, in this order, because each explains the next: with another prompt every answer
differs. Each keeps a verdict and raw lines of its own.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from orchestrator.checks import Verdict
from orchestrator.checks.contract import check_contract, load_probes, usage_of
from orchestrator.checks.contract.usage import Usage
from orchestrator.checks.rendering import check_rendering
from orchestrator.errors import UsageError
from orchestrator.events import Kind
from orchestrator.plan.edits import evidence_digest
from orchestrator.rendering.configs import plays_direct
from orchestrator.state import RouteState
from orchestrator.steps import Context
from orchestrator.steps.verify import Gate

DERIVED = ("context",)      # groups whose probes are made at run time


class Beforehand(Gate):
    """A check that says no like any other, and moves a route nowhere when it says yes."""

    before = RouteState.HEALTHY

    def __init__(self, context: Context, target: str, kind: Literal["generate", "embedding"] = "generate") -> None:
        super().__init__(context, target)
        self.kind: Literal["generate", "embedding"] = kind

    def do(self) -> dict[str, Any]:
        if self.check in self.skipped():
            reason = self.skipped()[self.check]
            self.context.journal.append("skip", f"{self.check} {self.target}", self.check, {"reason": reason})
            self.context.say("skip", f"{self.check} {self.target} is left out: {reason}", Kind.WARN)
            return {"text": "left out"}
        return super().do()

    def digest(self) -> str:
        return evidence_digest(self.context.spec, "parity", self.target)

    def passed(self, model: str) -> None:
        """What comes after decides."""

    def _used(self) -> Usage:
        uses = self.context.spec.parity.uses
        known = {*DERIVED, *(one.group for one in load_probes())}
        unknown = sorted(set(uses or ()) - known)
        if unknown:
            raise UsageError(f"parity.uses: no such group: {', '.join(unknown)}",
                             hint=f"groups: {', '.join(sorted(known))}")  # fmt: skip
        return usage_of(self.context.facts, uses)

    def _keep_lines(self, verdict: Verdict, lines: list[dict[str, Any]]) -> Verdict:
        self.raw = (json.dumps(line) for line in lines)
        return verdict

    def _progress(self, done: int, of: int, what: str) -> None:
        self.context.say(f"check-{self.check} {self.target}", f"{done} of {of}: {what}", Kind.WAIT, reason="asking")
        self.context.stop.check()


class RenderingGate(Beforehand):
    """Both sides make the same prompt of the same conversation."""

    check = "rendering"
    groups = ("rendering",)

    def judge(self) -> Verdict:
        direct = plays_direct(self.context.spec, self.target, self.context.facts)
        return self._keep_lines(*check_rendering(
            self._side("ollama"), self._side("vllm"), self.target, used=self._used(), direct=direct,
            timeout_s=self.context.spec.parity.timeout, progress=self._progress,
        ))  # fmt: skip


class ContractGate(Beforehand):
    """Both sides keep the same contract, as far as somebody would notice."""

    check = "contract"
    groups = ("contract",)

    def judge(self) -> Verdict:
        return self._keep_lines(*check_contract(
            self._side("ollama"), self._side("vllm"), self.target, used=self._used(), kind=self.kind,
            timeout_s=self.context.spec.parity.timeout, progress=self._progress,
        ))  # fmt: skip
