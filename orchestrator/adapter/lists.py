"""The endpoints that tell what models there are: those of both sides, as if there were still one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Path
from starlette.types import ASGIApp

from orchestrator.adapter import listing
from orchestrator.adapter.both import Ollama, merged
from orchestrator.adapter.config import Config, Route
from orchestrator.adapter.inbound import body_of
from orchestrator.adapter.outbound import NATIVE, V1, guarded, json_response
from orchestrator.adapter.refusals import Refusal, unknown_model, v1_error

# Of each list: what we know ourselves, where the models stand in it, what names them, and its media type.
_LISTS: dict[str, tuple[Callable[[Config], dict[str, object]], str, str, str]] = {
    "/api/tags": (listing.tags, "models", "name", NATIVE),
    "/api/ps": (listing.running, "models", "name", NATIVE),
    "/v1/models": (listing.v1_models, "data", "id", V1),
}


class Find(Protocol):
    """How a route is found; raises Refusal when there is none."""

    def __call__(self, request: Request, name: str, missing: Refusal | None = None) -> Route: ...


class Lists:
    """The endpoints; Ollama is asked first, as long as it answers."""

    def __init__(self, config: Callable[[], Config], find: Find, ollama: Callable[[], Ollama]) -> None:
        self._config = config
        self._find = find
        self._ollama = ollama

    def paths(self) -> list[Path]:
        """Return the routes of these endpoints."""
        return [
            *(Path(path, self.listed, methods=["GET"]) for path in _LISTS),
            Path("/api/show", guarded(self.show), methods=["POST"]),
            Path("/v1/models/{name}", self.v1_model, methods=["GET"]),
        ]

    async def listed(self, request: Request) -> Response:
        own, key, named, kind = _LISTS[request.url.path]
        config = self._config()
        said = await self._ollama().ask(config.ollama, request)
        return json_response(own(config), kind) if said is None else merged(said, own(config), key, named)

    async def show(self, request: Request) -> ASGIApp:
        said = await self._ollama().ask(self._config().ollama, request, await request.body())
        if said and said.status != 404:
            return said.response()
        body = await body_of(request, "api.ShowRequest")
        name = str(body.get("model") or body.get("name") or "")
        missing = name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"
        return json_response(listing.show(self._find(request, name, unknown_model(missing))))

    async def v1_model(self, request: Request) -> Response:
        said = await self._ollama().ask(self._config().ollama, request)
        if said and said.status != 404:
            return said.response()
        name = request.path_params["name"]
        route = self._config().find(name)
        if route is None:
            missing = name if ":" in name else f"{name}:latest"
            return json_response(v1_error(404, f"model '{missing}' not found"), V1, status=404, end="\n")
        return json_response({**listing.v1_model(route), "id": name}, V1)
