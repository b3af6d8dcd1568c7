"""/api/embed, /api/embeddings and /v1/embeddings."""

from __future__ import annotations

import base64
import struct
import time
from typing import Any

from orchestrator.standin import text
from orchestrator.standin.backend import BackendError
from orchestrator.standin.ollama import native, openai, requests, respond
from orchestrator.standin.ollama.models import Model
from orchestrator.standin.ollama.requests import Refusal
from orchestrator.standin.ollama.scheduler import Busy
from orchestrator.standin.ollama.service import BUSY, Service
from orchestrator.standin.wire import Exchange

Json = dict[str, Any]
NO_EMBEDDINGS = "This server does not support embeddings. Start it with `--embeddings`"
TOO_SHORT = "input exceeds maximum context length and cannot be truncated further"
FORMATS = ("float", "base64")


def inputs(value: Any) -> list[str]:
    """Return the texts of a request's `input`."""
    if isinstance(value, str):
        return [value] if value else []
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return value
    if value is None:
        return []
    raise Refusal(400, "invalid input type")


def _model(service: Service, request: Json) -> Model:
    name = str(request.get("model") or "")
    model = service.store.get(name)
    if model is None:
        raise Refusal(404, f'model "{name}" not found, try pulling it first')
    return model


async def vectors(service: Service, exchange: Exchange, model: Model, texts: list[str], request: Json) -> Json:
    """Return `vectors`, `tokens` and `load_ns` for texts."""
    if not texts:
        raise Refusal(400, TOO_SHORT)
    keep = requests.keep_alive(request.get("keep_alive"))
    options = requests.check_options(request.get("options") or {})
    try:
        async with service.scheduler.turn(model, options.get("num_ctx"), keep, exchange.loaded) as turn:
            if not model.can("embedding"):
                raise Refusal(501, NO_EMBEDDINGS)
            context = turn.runner.context
            sizes = [text.count(t) for t in texts]
            if request.get("truncate") is False and max(sizes) > context:
                raise Refusal(400, "the input length exceeds the context length")
            found = await _compute(service, model, texts)
            wanted = request.get("dimensions") or 0
            if wanted:
                found = [text.unit(v[:wanted]) for v in found]
            return {"vectors": found, "tokens": sum(min(n, context - 2) for n in sizes), "load_ns": turn.load_ns}
    except Busy:
        raise Refusal(503, BUSY) from None
    except BackendError as error:
        raise Refusal(error.status, str(error)) from error


async def _compute(service: Service, model: Model, texts: list[str]) -> list[list[float]]:
    if service.backend:
        answer = await service.backend.post("/v1/embeddings", {"input": texts})
        return [text.unit(d["embedding"]) for d in answer["data"]]
    return [text.vector(t, model.weights.embedding) for t in texts]


async def embed(service: Service, exchange: Exchange) -> None:
    began = time.monotonic_ns()
    request = native.request_of(exchange, "EmbedRequest")
    requests.keep_alive(request.get("keep_alive"))
    texts = inputs(request.get("input"))
    model = _model(service, request)
    answer: Json = {"model": request["model"], "embeddings": []}
    if texts:
        found = await vectors(service, exchange, model, texts, request)
        answer["embeddings"] = found["vectors"]
        answer |= {
            "total_duration": time.monotonic_ns() - began,
            "load_duration": found["load_ns"],
            "prompt_eval_count": found["tokens"],
        }
    await respond.json(exchange, answer)


async def legacy(service: Service, exchange: Exchange) -> None:
    request = native.request_of(exchange, "EmbeddingRequest")
    model = _model(service, request)
    prompt = str(request.get("prompt") or "")
    if not prompt:
        await respond.json(exchange, {"embedding": []})
        return
    found = await vectors(service, exchange, model, [prompt], request)
    await respond.json(exchange, {"embedding": found["vectors"][0]})


async def v1(service: Service, exchange: Exchange) -> None:
    try:
        request, shape = _v1_request(exchange)
    except Refusal as refusal:
        await respond.v1_refuse(exchange, refusal, early=True)
        return
    try:
        texts = inputs(request["input"])
        model = _model(service, request)
        found = await vectors(service, exchange, model, texts, request)
        await respond.v1_json(exchange, v1_answer(str(request["model"]), found, shape))
    except Refusal as refusal:
        await respond.v1_refuse(exchange, refusal)


def _v1_request(exchange: Exchange) -> tuple[Json, str]:
    """Return the request and its encoding."""
    request = openai.v1_request(exchange, "OpenAIEmbedRequest")
    shape = str(request.get("encoding_format") or "float").lower()
    if shape not in FORMATS:
        allowed = "['float', 'base64']"
        raise Refusal(400, f"Invalid value for 'encoding_format' = {shape}. Supported values: {allowed}.")
    if request.get("input") is None:
        raise Refusal(400, "invalid input")
    return request, shape


def packed(values: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def v1_answer(name: str, found: Json, shape: str) -> Json:
    data = [
        {"object": "embedding", "embedding": packed(v) if shape == "base64" else v, "index": i}
        for i, v in enumerate(found["vectors"])
    ]
    usage = {"prompt_tokens": found["tokens"], "total_tokens": found["tokens"]}
    return {"object": "list", "data": data, "model": name, "usage": usage}
