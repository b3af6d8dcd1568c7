"""Gates that compare answers: texts of models that generate, vectors of embedding models."""

from __future__ import annotations

from orchestrator.checks import Verdict
from orchestrator.checks.parity import check_parity
from orchestrator.checks.prompts import load_prompts
from orchestrator.checks.vectors import check_vectors
from orchestrator.clients.openai import OpenAI
from orchestrator.events import Kind
from orchestrator.rendering.engine import served_names
from orchestrator.state import Event, RouteState
from orchestrator.steps.verify import Gate


class ParityGate(Gate):
    """Both sides answer the same prompts in the same form, plain and streaming."""

    check = "parity"
    event = Event.PARITY_PASSED
    before = RouteState.HEALTHY

    def judge(self) -> Verdict:
        terms = self.context.spec.parity
        prompts = load_prompts(self.context.dir / terms.prompts) if terms.prompts else None
        return check_parity(
            self._side("ollama"), self._side("vllm"), self.target,
            prompts=prompts, names=served_names(self.context.spec, self._engine() or ""),
            similarity=terms.similarity, max_tokens=terms.max_tokens, progress=self._progress,
        )

    def _progress(self, done: int, of: int, prompt: str) -> None:
        self.context.say(f"check-parity {self.target}", f"{done} of {of}: {prompt}", Kind.WAIT, reason="asking")
        self.context.stop.check()


class VectorGate(Gate):
    """Both sides give the same vectors for the same inputs. There is no load gate for embeddings."""

    check = "vectors"
    event = Event.PARITY_PASSED
    before = RouteState.HEALTHY

    def judge(self) -> Verdict:
        old, new = self._side("ollama"), self._side("vllm")
        with OpenAI(old.base_url, headers=old.headers) as ollama, OpenAI(new.base_url, headers=new.headers) as vllm:
            return check_vectors(ollama, vllm, self.target, least=self.context.spec.parity.cosine)

    def passed(self, model: str) -> None:
        super().passed(model)
        if self.context.journal.states().routes[model] is RouteState.MATCHED:
            self.context.journal.move("route", model, Event.LOAD_PASSED)
