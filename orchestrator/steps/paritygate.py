"""Gates that compare answers: texts of models that generate, vectors of embedding models."""

from __future__ import annotations

import json

from orchestrator.checks import Verdict, vectors
from orchestrator.checks.answers.ask import Manner
from orchestrator.checks.answers.suites import load_suites
from orchestrator.checks.answers.terms import Terms
from orchestrator.checks.answers.whole import all_groups, measure_parity, recompute
from orchestrator.checks.parity_rules import Terms as SmokeTerms
from orchestrator.checks.prompts import load_prompts
from orchestrator.checks.vectors import measure_vectors
from orchestrator.clients.openai import OpenAI
from orchestrator.events import Kind
from orchestrator.rendering.engine import served_names
from orchestrator.state import Event, RouteState
from orchestrator.steps import Context
from orchestrator.steps.contractgate import ContractGate, RenderingGate
from orchestrator.steps.verify import Gate

_NEEDED = ("tools", "json", "stop")     # groups of answers that are groups of the contract, too


def require_suites(context: Context) -> None:
    """Read every prompt and suite that the spec names, before anything is started; raises UsageError."""
    wanted = context.spec.parity
    if wanted.prompts:
        load_prompts(context.dir / wanted.prompts)
    load_suites(wanted.suites, context.dir, "", wanted.groups)


class ParityGate(Gate):
    """Both sides answer alike: the same prompts in the same form, and suites whose answers can be checked."""

    check = "parity"
    groups = all_groups()
    event = Event.PARITY_PASSED
    before = RouteState.HEALTHY

    def judge(self) -> Verdict:
        """Ask both sides; the verdict is made of the raw lines alone. Prompts and contract first: each may say no."""
        for first in (RenderingGate, ContractGate):
            first(self.context, self.target).do()
        wanted = self.context.spec.parity
        suite, notes = load_suites(wanted.suites, self.context.dir, self.target, wanted.groups)
        lines = measure_parity(
            self._side("ollama"), self._side("vllm"), self.target,
            prompts=load_prompts(self.context.dir / wanted.prompts if wanted.prompts else None), suite=suite,
            smoke=SmokeTerms(self.target, tuple(served_names(self.context.spec, self._engine() or "")),
                             wanted.similarity),
            terms=Terms(wanted.alpha, wanted.loss, wanted.alike, wanted.vary, self._left_out()),
            manner=Manner(wanted.max_tokens, wanted.repeats, wanted.samples, wanted.parallel, wanted.timeout),
            notes=notes, progress=self._progress,
        )  # fmt: skip
        self.raw = (json.dumps(line) for line in lines)
        return recompute(lines)

    def _left_out(self) -> dict[str, str]:
        """What was skipped, and what the stack file says that nobody needs, each with the reason."""
        uses = self.context.spec.parity.uses
        unneeded = [name for name in _NEEDED if uses is not None and name not in uses]
        return {**dict.fromkeys(unneeded, "parity.uses does not name it"), **self.skipped()}

    def _progress(self, done: int, of: int, prompt: str) -> None:
        self.context.say(f"check-parity {self.target}", f"{done} of {of}: {prompt}", Kind.WAIT, reason="asking")
        self.context.stop.check()


class VectorGate(Gate):
    """Both sides give the same vectors for the same inputs. There is no load gate for embeddings."""

    check = "vectors"
    event = Event.PARITY_PASSED
    before = RouteState.HEALTHY

    def judge(self) -> Verdict:
        ContractGate(self.context, self.target, "embedding").do()
        old, new = self._side("ollama"), self._side("vllm")
        with OpenAI(old.base_url, headers=old.headers) as ollama, OpenAI(new.base_url, headers=new.headers) as vllm:
            lines = measure_vectors(ollama, vllm, self.target, least=self.context.spec.parity.cosine)
        self.raw = (json.dumps(line) for line in lines)
        return vectors.recompute(lines)

    def passed(self, model: str) -> None:
        super().passed(model)
        if self.context.journal.states().routes[model] is RouteState.MATCHED:
            self.context.journal.move("route", model, Event.LOAD_PASSED)
