"""The ASGI application: routes, the key, errors in the server's shapes, uvicorn's access log."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from orchestrator.standin.vllm import chat, completions, messages, pooling, respond, responses, service, startlog
from orchestrator.standin.vllm.checks import Refusal
from orchestrator.standin.vllm.engine import Engine, EngineError
from orchestrator.standin.wire import Exchange, Receive, Scope, Send, watched

Handler = Callable[[Engine, Exchange], Awaitable[None]]
COMMON: dict[str, dict[str, Handler]] = {
    "/health": {"GET": service.health},
    "/ping": {"GET": service.ping, "POST": service.ping},
    "/version": {"GET": service.version},
    "/load": {"GET": service.load},
    "/metrics": {"GET": service.metrics},
    "/kv_event_sources": {"GET": service.kv_sources},
    "/tokenize": {"POST": service.tokenize},
    "/detokenize": {"POST": service.detokenize},
    "/v1/models": {"GET": service.models},
}
GENERATE: dict[str, dict[str, Handler]] = {
    "/v1/chat/completions": {"POST": chat.handle},
    "/v1/completions": {"POST": completions.handle},
    "/v1/responses": {"POST": responses.handle},
    "/v1/messages": {"POST": messages.handle},
    "/v1/messages/count_tokens": {"POST": messages.count},
    "/v1/chat/completions/render": {"POST": service.scale_out},
    "/v1/completions/render": {"POST": service.scale_out},
    "/invocations": {"POST": chat.handle},
    "/generative_scoring": {"POST": service.scoring},
}
POOL: dict[str, dict[str, Handler]] = {"/v1/embeddings": {"POST": pooling.handle}}
GUARDED = ("/v1", "/v2", "/inference", "/cohere")
CORS = {"access-control-allow-methods": "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, QUERY"}


class App:
    """One server as an ASGI application."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.routes = COMMON | (POOL if engine.options.pooling else GENERATE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send)
        began = time.monotonic()
        await exchange.read()
        await watched(exchange, self._answer(exchange))
        if exchange.started:
            handler = exchange.path if exchange.path in self.routes else "none"
            self.engine.metrics.answered(handler, exchange.method, exchange.status, time.monotonic() - began)
            phrase = HTTPStatus(exchange.status).phrase
            target = exchange.target + (f"?{exchange.query}" if exchange.query else "")
            startlog.access(exchange.client, exchange.method, target, exchange.status, phrase)

    def _authorized(self, exchange: Exchange) -> bool:
        keys = self.engine.options.keys
        if not keys or not exchange.path.startswith(GUARDED) or exchange.method == "OPTIONS":
            return True
        scheme, _, token = exchange.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and token in keys

    async def _answer(self, exchange: Exchange) -> None:
        if not self._authorized(exchange):
            body = respond.dumps({"error": "Unauthorized"})
            await exchange.reply(401, body, {"content-type": respond.JSON})
            return
        headers = exchange.headers
        if exchange.method == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers:
            more = {"content-type": "text/plain; charset=utf-8", **CORS, "access-control-max-age": "600"}
            await exchange.reply(400, b"Disallowed CORS origin", {**more, **respond.VARY})
            return
        methods = self.routes.get(exchange.path)
        if methods is None:
            await respond.json(exchange, {"detail": "Not Found"}, 404)
        elif exchange.method not in methods:
            await respond.json(exchange, {"detail": "Method Not Allowed"}, 405, allow=", ".join(methods))
        else:
            await self._handle(exchange, methods[exchange.method])

    async def _handle(self, exchange: Exchange, handler: Handler) -> None:
        try:
            await handler(self.engine, exchange)
        except Refusal as refusal:
            await respond.json(exchange, refusal.body, refusal.status)
        except EngineError as error:
            if exchange.started:
                await respond.broken(exchange, str(error), error.status)
                return
            kind = "ServiceUnavailableError" if error.status == 503 else "InternalServerError"
            body = Refusal(str(error), kind=kind, status=error.status).body
            await respond.json(exchange, body, error.status)
        except Exception as error:
            if exchange.started:
                raise
            body = Refusal(str(error), kind="InternalServerError", status=500).body
            await respond.json(exchange, body, 500)
