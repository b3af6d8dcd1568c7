"""From a request in Ollama's own form to a running generation; every dialect goes through here."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.standin import grammar, text
from orchestrator.standin.backend import Backend, BackendError
from orchestrator.standin.ollama import requests
from orchestrator.standin.ollama.generate import Ask, Done, Piece, generate
from orchestrator.standin.ollama.models import Model
from orchestrator.standin.ollama.requests import Refusal, runner_error
from orchestrator.standin.ollama.scheduler import Busy, Scheduler, Turn
from orchestrator.standin.ollama.settings import Settings
from orchestrator.standin.ollama.store import Store

Json = dict[str, Any]
BUSY = "server busy, please try again.  maximum pending requests exceeded"
NO_IMAGES = "Multimodal data provided, but model does not support multimodal requests."
EFFORTS = ("high", "medium", "low", "max")


@dataclass(frozen=True)
class Job:
    """A checked request: run a generation, or only load or unload the model."""

    kind: Literal["run", "load", "unload", "render"]
    name: str
    model: Model
    ask: Ask
    context: int | None
    keep_alive: int | None
    truncate: bool = True
    images: bool = False


@dataclass(frozen=True)
class Started:
    """The first event of a running job: nanoseconds that loading took, and when the job began."""

    load_ns: int
    began_ns: int


class RunnerRefusal(Refusal):
    """A refusal that came from the runner, after the model was loaded."""


Event = Started | Piece | Done


class Service:
    """The state of one server."""

    def __init__(self, settings: Settings, store: Store, scheduler: Scheduler, backend: Backend | None) -> None:
        self.settings = settings
        self.store = store
        self.scheduler = scheduler
        self.backend = backend

    def find(self, name: str) -> Model:
        model = self.store.get(name)
        if model is None:
            raise Refusal(404, f"model '{name}' not found")
        return model

    def chat(self, request: Json) -> Job:
        """Check a request of /api/chat."""
        keep = requests.keep_alive(request.get("keep_alive"))
        name = requests.model_name(request)
        model = self.find(name)
        messages = [m for m in request.get("messages") or [] if isinstance(m, dict)]
        if not model.can("completion"):
            raise Refusal(400, f'"{name}" does not support chat')
        think = self._think(request.get("think"), name, model)
        tools = request.get("tools")
        if tools and not model.can("tools"):
            raise Refusal(400, f"{model.full} does not support tools")
        options = {**model.parameters, **requests.check_options(request.get("options") or {})}
        spoken = [*model.messages, *messages]
        if model.system and (not messages or messages[0].get("role") != "system"):
            spoken.insert(0, {"role": "system", "content": model.system})
        ask = Ask(
            model, spoken, tools=tools, options=options, format=request.get("format") or None, think=think,
            logprobs=self._logprobs(request),
        )  # fmt: skip
        images = any(m.get("images") for m in messages)
        return self._job(name, model, ask, request, keep, empty=not messages, images=images)

    def generate(self, request: Json) -> Job:
        """Check a request of /api/generate."""
        keep = requests.keep_alive(request.get("keep_alive"))
        name = requests.model_name(request)
        model = self.find(name)
        raw = bool(request.get("raw"))
        if raw and (request.get("template") or request.get("system") or request.get("context")):
            raise Refusal(400, "raw mode does not support template, system, or context")
        if not model.can("completion"):
            raise Refusal(400, f'"{name}" does not support generate')
        if request.get("suffix"):
            raise Refusal(400, f"{model.full} does not support insert")
        think = self._think(request.get("think"), name, model)
        template = str(request.get("template") or "")
        if template.count("{{") != template.count("}}"):
            raise Refusal(500, "template: :1: unclosed action")
        prompt = str(request.get("prompt") or "")
        options = {**model.parameters, **requests.check_options(request.get("options") or {})}
        system = request.get("system") or model.system
        messages = [{"role": "system", "content": system}] if system else []
        messages += [*model.messages, {"role": "user", "content": prompt}]
        ask = Ask(
            model, messages, raw=prompt if raw else None, options=options, format=request.get("format") or None,
            think=think, logprobs=self._logprobs(request),
        )  # fmt: skip
        return self._job(name, model, ask, request, keep, empty=not prompt, images=bool(request.get("images")))

    def _job(
        self, name: str, model: Model, ask: Ask, request: Json, keep: int | None, *, empty: bool, images: bool
    ) -> Job:
        kind: Literal["run", "load", "unload", "render"] = "run"
        if empty:
            kind = "unload" if keep == 0 else "load"
        elif request.get("_debug_render_only"):
            kind = "render"
        truncate = request.get("truncate") is not False and request.get("shift") is not False
        return Job(kind, name, model, ask, ask.options.get("num_ctx"), keep, truncate, images)

    def _think(self, asked: Any, name: str, model: Model) -> bool:
        if isinstance(asked, str) and asked not in EFFORTS:
            allowed = '"high", "medium", "low", "max", true, or false'
            raise Refusal(400, f'invalid think value: "{asked}" (must be {allowed})')
        if asked and not model.can("thinking"):
            raise Refusal(400, f'"{name}" does not support thinking')
        return model.can("thinking") if asked is None else bool(asked)

    def _logprobs(self, request: Json) -> int | None:
        top = request.get("top_logprobs") or 0
        if not 0 <= top <= 20:
            raise Refusal(400, "top_logprobs must be between 0 and 20")
        return top if request.get("logprobs") else None

    async def run(self, job: Job, loaded: Callable[[], None]) -> AsyncGenerator[Event, None]:
        """Carry a job out; raises Refusal for what Ollama answers with an error."""
        began = time.monotonic_ns()
        if job.kind == "unload":
            self.scheduler.expire(job.model)
            yield Started(0, began)
            return
        try:
            async with self.scheduler.turn(job.model, job.context, job.keep_alive, loaded) as turn:
                yield Started(turn.load_ns, began)
                if job.kind == "run":
                    self._refuse_by_runner(job, turn)
                    async for event in generate(job.ask, turn, self.backend):
                        yield event
        except Busy:
            raise Refusal(503, BUSY) from None
        except BackendError as error:
            raise RunnerRefusal(error.status, str(error)) from error

    def _refuse_by_runner(self, job: Job, turn: Turn) -> None:
        """Raise what llama-server itself refuses."""
        refusal: Refusal | None = None
        if job.images and not job.model.can("vision"):
            refusal = runner_error(NO_IMAGES)
        try:
            grammar.check(job.ask.format)
        except grammar.UnknownType as error:
            said = f"JSON schema conversion failed:\nJSON schema error at #: unrecognized type {error}"
            refusal = runner_error(f"Field 'json_schema': \"json_schema\": {said}")
        number, context = text.prompt_tokens(job.ask.prompt), turn.runner.context
        if not job.truncate and number > context:
            refusal = runner_error(
                f"request ({number} tokens) exceeds the available context size ({context} tokens), "
                "try increasing it",
                type="exceed_context_size_error", n_prompt_tokens=number, n_ctx=context,
            )  # fmt: skip
        if refusal:
            raise RunnerRefusal(refusal.status, refusal.message)
