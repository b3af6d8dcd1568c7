"""The ASGI application: routes, Host and Origin rules, the access log."""

from __future__ import annotations

import ipaddress
import time
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from urllib.parse import urlsplit

from orchestrator.standin.ollama import embed, listing, logs, manage, messages, native, openai, respond, responses
from orchestrator.standin.ollama.requests import Refusal
from orchestrator.standin.ollama.service import Service
from orchestrator.standin.wire import Exchange, Receive, Scope, Send, watched

Handler = Callable[[Service, Exchange], Awaitable[None]]
PLAIN = "text/plain"
HTML = "text/html; charset=utf-8"

ROUTES: dict[str, dict[str, Handler]] = {
    "/": {"HEAD": listing.root, "GET": listing.root},
    "/api/version": {"HEAD": listing.version, "GET": listing.version},
    "/api/status": {"GET": listing.status},
    "/api/tags": {"HEAD": listing.tags, "GET": listing.tags},
    "/api/ps": {"GET": listing.ps},
    "/api/show": {"POST": listing.show},
    "/api/me": {"POST": listing.account},
    "/api/chat": {"POST": partial(native.handle, chat=True)},
    "/api/generate": {"POST": partial(native.handle, chat=False)},
    "/api/embed": {"POST": embed.embed},
    "/api/embeddings": {"POST": embed.legacy},
    "/api/copy": {"POST": manage.copy},
    "/api/delete": {"DELETE": manage.delete},
    "/api/create": {"POST": manage.create},
    "/api/pull": {"POST": manage.pull},
    "/api/push": {"POST": manage.push},
    "/v1/chat/completions": {"POST": partial(openai.handle, chat=True)},
    "/v1/completions": {"POST": partial(openai.handle, chat=False)},
    "/v1/embeddings": {"POST": embed.v1},
    "/v1/models": {"GET": listing.v1_models},
    "/v1/responses": {"POST": responses.handle},
    "/v1/messages": {"POST": messages.handle},
}
CORS_HEADERS = (
    "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch,X-Stainless-Async,"
    "X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,"
    "X-Stainless-Package-Version,X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,"
    "X-Stainless-Runtime-Version,X-Stainless-Timeout"
)
LOCAL = ("localhost", "127.0.0.1", "0.0.0.0")
APP_SCHEMES = ("app", "file", "tauri", "vscode-webview", "vscode-file")


def methods_of(path: str) -> dict[str, Handler] | None:
    if path in ROUTES:
        return ROUTES[path]
    if path.startswith("/api/blobs/") and "/" not in path.removeprefix("/api/blobs/"):
        return {"POST": manage.blob, "HEAD": manage.blob}
    name = path.removeprefix("/v1/models/")
    return {"GET": listing.v1_model} if name != path and name and "/" not in name else None


def origin_allowed(origin: str) -> bool:
    parts = urlsplit(origin)
    return parts.scheme in APP_SCHEMES or (parts.scheme in {"http", "https"} and parts.hostname in LOCAL)


def host_allowed(host: str) -> bool:
    """Return whether a server on loopback answers to this Host header."""
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    name = name.strip("[]").lower()
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name in {"", "localhost"} or name.endswith((".localhost", ".local", ".internal"))
    return address.is_loopback or address.is_private


class App:
    """One server as an ASGI application."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def close(self) -> None:
        if self.service.backend:
            await self.service.backend.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send)
        began = time.monotonic_ns()
        try:
            await exchange.read()
            await watched(exchange, self._answer(exchange))
        finally:
            status = exchange.status or (exchange.gone_status if exchange.gone else 500)
            elapsed = time.monotonic_ns() - began
            path = exchange.target + (f"?{exchange.query}" if exchange.query else "")
            logs.access(status, elapsed, self._client(exchange), exchange.method, path)

    def _client(self, exchange: Exchange) -> str:
        forwarded = exchange.headers.get("x-forwarded-for", "")
        return forwarded.split(",")[0].strip() or exchange.client[0]

    async def _answer(self, exchange: Exchange) -> None:
        origin = exchange.headers.get("origin")
        same = origin and urlsplit(origin).netloc == exchange.headers.get("host")
        if origin and not same:
            if not origin_allowed(origin):
                await exchange.reply(403, b"", {})
                return
            if exchange.method == "OPTIONS":
                await self._preflight(exchange, origin)
                return
        if self.service.settings.loopback and not host_allowed(exchange.headers.get("host", "")):
            await exchange.reply(403, b"", {})
            return
        await self._route(exchange)

    async def _preflight(self, exchange: Exchange, origin: str) -> None:
        known = methods_of(exchange.path) or {}
        headers = {
            "access-control-allow-headers": CORS_HEADERS,
            "access-control-allow-methods": "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
            "access-control-allow-origin": origin,
            "access-control-max-age": "43200",
        }
        if known:
            headers["allow"] = ", ".join(known)
        await exchange.start(204, headers)
        await exchange.end()

    async def _route(self, exchange: Exchange) -> None:
        path = exchange.path
        methods = methods_of(path)
        if methods is None:
            await self._unknown(exchange)
        elif exchange.method in methods:
            try:
                await methods[exchange.method](self.service, exchange)
            except Refusal as refusal:
                await respond.refuse(exchange, refusal)
            except Exception:  # noqa: BLE001 -- whatever it is, a client gets an answer
                logs.plain(traceback.format_exc())
                if not exchange.started:  # as gin's recovery does
                    await exchange.reply(500, b"", {})
        else:
            headers = {"content-type": PLAIN, "allow": ", ".join(methods)}
            await exchange.reply(405, b"405 method not allowed", headers)

    async def _unknown(self, exchange: Exchange) -> None:
        """Redirect a path that is nearly right, else say 404."""
        tidy = "/" + "/".join(filter(None, exchange.path.split("/")))
        if tidy != exchange.path and methods_of(tidy):
            gin = exchange.path == tidy + "/" and exchange.method == "GET"
            status, words = (301, "Moved Permanently") if gin else (307, "Temporary Redirect")
            body = f'<a href="{tidy}">{words}</a>.\n\n' if exchange.method in {"GET", "HEAD"} else ""
            headers = {"location": tidy} | ({"content-type": HTML} if body else {})
            await exchange.reply(status, body.encode(), headers)
        else:
            await exchange.reply(404, b"404 page not found", {"content-type": PLAIN})
