"""The HTTP surface: paths, methods and error forms of Ollama."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Path
from starlette.types import ASGIApp

from orchestrator.adapter import anthropic, embed, native, responses, v1
from orchestrator.adapter.anthropic_answer import MessagesAnswer
from orchestrator.adapter.ask import TEXT, Ask, render_request
from orchestrator.adapter.both import Ollama
from orchestrator.adapter.config import Config, Route, valid
from orchestrator.adapter.engine import Engines
from orchestrator.adapter.exchange import Answer
from orchestrator.adapter.heard import counts, field, numbers
from orchestrator.adapter.inbound import body_of, name_of
from orchestrator.adapter.lists import Lists
from orchestrator.adapter.native_answer import NativeAnswer
from orchestrator.adapter.outbound import (
    V1,
    Handler,
    guarded,
    json_response,
    plain,
    refused_messages,
    refused_native,
    refused_v1,
)
from orchestrator.adapter.pieces import Tally
from orchestrator.adapter.refusals import EngineFault, Refusal, refusal_of, unknown_model
from orchestrator.adapter.respond import Conversation, log, unless_left
from orchestrator.adapter.responses_answer import ResponsesAnswer
from orchestrator.adapter.v1_answer import ChatAnswer, TextAnswer
from orchestrator.adapter.wire import JSON, encode, timestamp

T = TypeVar("T")


class Adapter:
    """The endpoints; `config` is asked anew for each request, so that a reload takes effect at once."""

    def __init__(self, config: Callable[[], Config]) -> None:
        self._config = config
        self._engines: Engines | None = None

    @property
    def engines(self) -> Engines:
        assert self._engines is not None
        return self._engines

    def app(self) -> Starlette:
        """Return the application."""
        posts: dict[str, Handler] = {
            "/api/chat": self.chat,
            "/api/generate": self.generate,
            "/api/embed": self.embed,
            "/api/embeddings": self.embeddings,
            "/v1/chat/completions": self.v1_chat,
            "/v1/completions": self.v1_completions,
            "/v1/embeddings": self.v1_embeddings,
            "/v1/responses": self.v1_responses,
            "/v1/messages": self.v1_messages,
            "/v1/messages/count_tokens": self.v1_count_tokens,
        }
        gets: dict[str, Callable[[Request], Response]] = {
            "/healthz": lambda _: Response("ok"),
            "/": lambda _: Response("Ollama is running", media_type="text/plain"),
            "/api/version": lambda _: json_response({"version": self._config().version}),
        }
        paths = [Path(path, guarded(handler), methods=["POST"]) for path, handler in posts.items()]
        paths += [Path(path, handler, methods=["GET"]) for path, handler in gets.items()]
        paths += Lists(self._config, self._route, lambda: self._ollama).paths()
        app = Starlette(routes=paths, lifespan=self._lifespan, exception_handlers={HTTPException: plain})
        app.router.redirect_slashes = False
        return app

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._engines = Engines()
        self._ollama = Ollama(self._engines.session)
        try:
            yield
        finally:
            await self._engines.close()

    def _route(self, request: Request, name: str, missing: Refusal | None = None) -> Route:
        """Return the route of a request; the gateway's own resolution wins."""
        if not name:
            raise Refusal(400, "model is required")
        route = self._config().find(name, request.headers.get("x-migrate-route", ""))
        if route is None:
            raise (missing or unknown_model(name)) if valid(name) else Refusal(400, "invalid model name")
        return route.on(request.headers.get("x-migrate-engine", ""))

    async def chat(self, request: Request) -> ASGIApp:
        body = await body_of(request, "api.ChatRequest")
        route = self._route(request, name_of(body))
        question = native.chat(route, body)
        if isinstance(question, str):
            return json_response(native.loaded(name_of(body), question, chat=True, created_at=_now()))
        if body.get("_debug_render_only") is True:
            prompt = await unless_left(request.receive, self._rendered(question))
            return json_response(native.rendered(question.name, prompt, chat=True, created_at=_now()))
        answer = NativeAnswer(question.name, chat=True, clock=time.time_ns)
        return Conversation(self.engines, question, answer, refused_native)

    async def generate(self, request: Request) -> ASGIApp:
        body = await body_of(request, "api.GenerateRequest")
        route = self._route(request, name_of(body))
        question = native.generate(route, body)
        if isinstance(question, str):
            return json_response(native.loaded(name_of(body), question, chat=False, created_at=_now()))
        if body.get("_debug_render_only") is True:
            prompt = await unless_left(request.receive, self._rendered(question))
            return json_response(native.rendered(question.name, prompt, chat=False, created_at=_now()))
        if question.context:
            await unless_left(request.receive, self._continue(question))
        answer = NativeAnswer(question.name, chat=False, clock=time.time_ns, context=True)
        return Conversation(self.engines, question, answer, refused_native)

    async def _beside(self, question: Ask, path: str, asked: JSON, read: Callable[[JSON], T]) -> T:
        """Return what `read` finds in the engine's answer to what a question needs beside its own request."""
        try:
            return read(await self.engines.ask(question.route.url + path, asked))
        except EngineFault as fault:
            raise refusal_of(fault, question.name, question.route.context_length) from fault

    async def _rendered(self, question: Ask) -> str:
        """Return the prompt that a question becomes."""
        if "messages" not in question.body:
            return str(question.body["prompt"])
        found = await self._beside(question, "/tokenize", render_request(question.body), _tokens)
        asked = {"model": question.route.served, "tokens": found}
        return await self._beside(question, "/detokenize", asked, lambda said: field(said, "prompt", str))

    async def _continue(self, question: Ask) -> None:
        """Put the tokens of `context` before the rendered prompt, as Ollama does."""
        body, route = question.body, question.route
        rendered, room = await self._beside(
            question, "/tokenize", render_request(body), lambda said: (_tokens(said), counts(said) or {})
        )
        del body["messages"]
        question.path = TEXT
        body["prompt"] = question.context + rendered
        body.setdefault("max_tokens", max((room.get("max_model_len") or route.context_length or 0) - 1, 1))
        for key in ("chat_template_kwargs", "reasoning_effort"):
            body.pop(key, None)

    async def embed(self, request: Request) -> ASGIApp:
        started = time.monotonic_ns()
        body = await body_of(request, "api.EmbedRequest")
        name = name_of(body)
        route = self._route(request, name, _not_pulled(name))
        texts = embed.native_inputs(body)
        if not texts:
            return json_response(embed.native_answer(name, [], 0, 0, 0))
        sent = time.monotonic_ns()
        data = await self._embed(request, route, name, texts, truncate=body.get("truncate") is not False)
        found = embed.vectors(data, body.get("dimensions"), count=len(texts))
        total = time.monotonic_ns() - started
        return json_response(embed.native_answer(name, found, total, sent - started, embed.tokens(data)))

    async def embeddings(self, request: Request) -> ASGIApp:
        body = await body_of(request, "api.EmbeddingRequest")
        name = name_of(body)
        route = self._route(request, name)
        prompt = str(body.get("prompt") or "")
        if not prompt:
            return json_response({"embedding": []})
        data = await self._embed(request, route, name, [prompt], truncate=True)
        return json_response({"embedding": embed.vectors(data, count=1)[0]})

    async def v1_embeddings(self, request: Request) -> ASGIApp:
        body = await body_of(request, "openai.EmbedRequest")
        texts = embed.v1_inputs(body)
        name = name_of(body)
        route = self._route(request, name, _not_pulled(name))
        data = await self._embed(request, route, name, texts, truncate=True)
        form = str(body.get("encoding_format") or "float").lower()
        found = embed.vectors(data, body.get("dimensions"), count=len(texts))
        return json_response(embed.v1_answer(name, found, form, embed.tokens(data)), V1, end="\n")

    async def _embed(self, request: Request, route: Route, name: str, texts: list[str], *, truncate: bool) -> JSON:
        started = time.monotonic_ns()
        question = embed.question(route, texts, truncate=truncate)
        try:
            data = await unless_left(request.receive, self.engines.ask(route.url + embed.PATH, question))
        except EngineFault as fault:
            raise embed.refusal(fault, name, route.context_length) from fault
        spent = round((time.monotonic_ns() - started) / 1e6, 1)
        log(path=embed.PATH, route=route.name, engine=route.engine, status=200, outcome="complete",
            total_ms=spent, prompt_tokens=embed.tokens(data))  # fmt: skip
        return data

    async def v1_chat(self, request: Request) -> ASGIApp:
        body = await body_of(request, "openai.ChatCompletionRequest")
        question = v1.chat(self._route(request, name_of(body)), body)
        answer = ChatAnswer(question.name, _number(), int(time.time()), usage=question.usage)
        return Conversation(self.engines, question, answer, refused_v1)

    async def v1_completions(self, request: Request) -> ASGIApp:
        body = await body_of(request, "openai.CompletionRequest")
        route = self._route(request, name_of(body))
        question = v1.completion(route, body)
        usage = not isinstance(question, str) and question.usage
        answer = TextAnswer(name_of(body), _number(), int(time.time()), usage=usage)
        if isinstance(question, str):
            return Response(encode(answer.loaded()), headers={"content-type": V1})
        return Conversation(self.engines, question, answer, refused_v1)

    async def v1_responses(self, request: Request) -> ASGIApp:
        body = await body_of(request, "openai.ResponsesRequest")
        question = responses.chat(self._route(request, name_of(body)), body)
        answer = ResponsesAnswer(name_of(body), body, int(time.time()))
        if isinstance(question, str):
            return _loaded(answer, stream=body.get("stream") is True)
        return Conversation(self.engines, question, answer, refused_v1)

    async def v1_messages(self, request: Request) -> ASGIApp:
        body = anthropic.checked(await body_of(request, "anthropic.MessagesRequest"))
        question = anthropic.chat(self._route(request, name_of(body)), body)
        answer = MessagesAnswer(name_of(body), anthropic.estimate(body))
        if isinstance(question, str):
            return _loaded(answer, stream=bool(body.get("stream")))
        return Conversation(self.engines, question, answer, refused_messages)

    async def v1_count_tokens(self, request: Request) -> ASGIApp:
        """Count the tokens of a request of /v1/messages; Ollama itself has no such path."""
        body = await body_of(request, "anthropic.MessagesRequest")
        route = self._route(request, name_of(body))
        asked = anthropic.counted(route, body)
        question = Ask(route, name_of(body), "", {}, stream=False)
        count = self._beside(question, "/tokenize", asked, lambda said: field(said, "count", int))
        counted = await unless_left(request.receive, count)
        return json_response({"input_tokens": counted}, V1, end="\n")


def _loaded(answer: Answer, *, stream: bool) -> Response:
    """Return the answer to a request that says nothing: it only loads."""
    nothing = Tally(started=0, finish="load")
    text, kind = (answer.end(nothing), answer.stream_type) if stream else (answer.whole(nothing), answer.whole_type)
    return Response(encode(text), headers={"content-type": kind})


def _not_pulled(name: str) -> Refusal:
    return Refusal(404, f'model "{name}" not found, try pulling it first')


def _tokens(said: JSON) -> list[int]:
    return numbers(said, "tokens")


def _now() -> str:
    return timestamp(time.time_ns())


def _number() -> int:
    """Return the number of an answer's id; Ollama draws from as few."""
    return random.randrange(999)  # noqa: S311  (an id, no secret)
