"""A small engine that speaks as vLLM's recordings do; the last user message chooses what it does.

`die` error frame after two tokens, `cut` connection closed after two tokens, `refuse` 500 before headers,
`endless` tokens until the client leaves, `flood` the same as fast as they are taken, `slices` events cut into pieces
of three bytes, `weather` tool calls when there are tools. Else it repeats the message, after some reasoning when
thinking is switched on.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import httpx
from aiohttp import web

LIMIT = 1024


class FakeEngine:
    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.requests: list[dict[str, Any]] = []
        self.peers: list[int] = []  # the client's port of each request
        self.aborted = threading.Event()
        self.sent = 0  # tokens of the last answer without an end
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._text)
        app.router.add_post("/v1/embeddings", self._embed)
        app.router.add_post("/tokenize", self._tokenize)
        app.router.add_post("/detokenize", self._detokenize)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def _read(self, request: web.Request) -> dict[str, Any]:
        assert request.transport is not None
        self.peers.append(request.transport.get_extra_info("peername")[1])
        body = await request.json()
        self.requests.append(body)
        return body

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await self._read(request)
        content = body["messages"][-1]["content"]
        text = content if isinstance(content, str) else content[0]["text"]
        return await self._answer(request, body, text)

    async def _text(self, request: web.Request) -> web.StreamResponse:
        body = await self._read(request)
        prompt = body["prompt"]
        return await self._answer(request, body, prompt if isinstance(prompt, str) else "tokens")

    async def _tokenize(self, request: web.Request) -> web.StreamResponse:
        body = await self._read(request)
        return web.json_response({"count": words(body), "max_model_len": LIMIT, "tokens": [7, 8], "token_strs": None})

    async def _detokenize(self, request: web.Request) -> web.StreamResponse:
        body = await self._read(request)
        return web.json_response({"prompt": " ".join(map(str, body["tokens"]))})

    async def _embed(self, request: web.Request) -> web.StreamResponse:
        body = await self._read(request)
        if body["model"] != "emb:latest":
            return web.json_response({"detail": "Not Found"}, status=404)
        data = [
            {"index": at, "object": "embedding", "embedding": [3.0, 4.0, 0.0, float(len(text))]}
            for at, text in enumerate(body["input"])
        ]
        usage = {"prompt_tokens": 3 * len(data), "total_tokens": 3 * len(data), "completion_tokens": 0}
        return web.json_response({"id": "embd-1", "object": "list", "data": data, "usage": usage})

    async def _answer(self, request: web.Request, body: dict[str, Any], text: str) -> web.StreamResponse:
        if refused := refusal(body, text):
            status, message = refused
            error = {"message": message, "type": "BadRequestError", "param": None, "code": status}
            return web.json_response({"error": error}, status=status)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        try:
            await self._events(request, response, body, text)
        except (asyncio.CancelledError, ConnectionError):
            self.aborted.set()
            raise
        return response

    async def _events(
        self, request: web.Request, response: web.StreamResponse, body: dict[str, Any], text: str
    ) -> None:
        chat = "messages" in body
        said = tokens(text)
        limit = body.get("max_tokens", 10_000)
        sent = 0

        async def send(event: dict[str, Any] | None) -> None:
            data = b"[DONE]" if event is None else json.dumps(event, ensure_ascii=False).encode()
            raw = b"data: " + data + b"\n\n"
            step = 3 if text.startswith("slices") else len(raw)
            for at in range(0, len(raw), step):
                await response.write(raw[at : at + step])
                if step == 3:
                    await asyncio.sleep(0)

        def event(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
            choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "logprobs": None}
            choice |= {"delta": delta} if chat else {"text": delta.get("content", "")}
            if body.get("logprobs") and delta.get("content"):
                choice["logprobs"] = logprobs(body, delta["content"])
            if body.get("return_token_ids") and delta.get("content"):
                choice["token_ids"] = [100 + sent]
            made: dict[str, Any] = {"id": "chatcmpl-1", "model": "first", "choices": [choice]}
            if body["stream_options"].get("continuous_usage_stats"):
                made["usage"] = usage(sent)
            return made

        if isinstance(body.get("prompt"), list) and max(body["prompt"], default=0) > 50_000:
            await send({"error": {"message": "Token id 99999 is out of vocabulary", "code": 400}})
            await send(None)
            return
        first = event({"role": "assistant", "content": ""})
        if body.get("return_token_ids"):
            first["prompt_token_ids"] = [1, 2, 3]
        await send(first)
        finish = "stop"
        if body.get("tools") and text.startswith("weather"):
            for part in tool_parts():
                sent += 1
                await send(event({"tool_calls": [part]}))
            finish, said = "tool_calls", []
        if body.get("chat_template_kwargs", {}).get("enable_thinking"):
            for word in ("let ", "me ", "see"):
                sent += 1
                await send(event({"reasoning": word}))
        while text in ("endless", "flood"):
            sent += 1
            self.sent = sent
            await send(event({"content": "and "}))
            await asyncio.sleep(0.01 if text == "endless" else 0)
        for word in said:
            if sent >= limit:
                finish = "length"
                break
            if any(stop in word for stop in body.get("stop", [])):
                break
            sent += 1
            await send(event({"content": word}))
            if sent == 2 and text.startswith("cut"):
                await asyncio.sleep(0.2)  # what was sent is on its way before the connection goes
                assert request.transport is not None
                request.transport.abort()
                return
            if sent == 2 and text.startswith("die"):
                await send({"error": {"message": "EngineCore encountered an issue.", "code": 500}})
                await send(None)
                return
        await send(event({}, finish))
        await send({"id": "chatcmpl-1", "choices": [], "usage": usage(sent)})
        await send(None)


def refusal(body: dict[str, Any], text: str) -> tuple[int, str] | None:
    if text == "refuse":
        return 500, "EngineCore encountered an issue."
    if words(body) >= LIMIT and "truncate_prompt_tokens" not in body:
        return 400, (
            f"This model's maximum context length is {LIMIT} tokens. However, your prompt contains at least "
            "2000 input tokens, which exceeds this limit even without any output tokens."
        )
    if body.get("max_tokens", 1) > LIMIT:
        return 400, f"max_tokens={body['max_tokens']} cannot be greater than max_model_len={LIMIT}."
    if len(body.get("stop", [])) > 4 or not 0 <= body.get("temperature", 1) <= 2:
        return 400, "validation error"
    return None


def words(body: dict[str, Any]) -> int:
    """Count words, this engine's tokens."""
    return sum(len(str(message["content"]).split()) for message in body.get("messages", []))


def tokens(text: str) -> list[str]:
    words = text.split(" ")
    return [word + " " for word in words[:-1]] + words[-1:]


def tool_parts() -> list[dict[str, Any]]:
    head = {"index": 0, "id": "call_abc", "type": "function", "function": {"name": "weather", "arguments": ""}}
    parts = [{"index": 0, "function": {"arguments": text}} for text in ('{"city"', ': "Oslo"}')]
    second = {"name": "time", "arguments": "{}"}
    return [head, *parts, {"index": 1, "id": "call_def", "type": "function", "function": second}]


def logprobs(body: dict[str, Any], token: str) -> dict[str, Any]:
    if "prompt" in body:
        return {"tokens": [token], "token_logprobs": [-1.5], "top_logprobs": [{token: -1.5}]}
    entry = {"token": token, "logprob": -1.5, "bytes": list(token.encode())}
    return {"content": [{**entry, "top_logprobs": [entry] * body.get("top_logprobs", 0)}]}


def usage(sent: int) -> dict[str, Any]:
    return {"prompt_tokens": 5, "completion_tokens": sent, "total_tokens": 5 + sent}


ROUTE = {
    "engine": "one",
    "served": "llama3.1:8b",
    "names": ["Org/Llama-8B"],
    "digest": "d" * 64,
    "size": 123,
    "details": {"family": "llama", "parameter_size": "8B", "context_length": 1024},
    "capabilities": ["completion", "tools"],
    "system": None,
    "messages": [],
    "parameters": {"top_k": 17, "stop": ["<|eot|>"]},
    "context_length": 1024,
    "modified_at": "2026-11-21T01:19:41.164191135Z",
}


def free_port() -> int:
    """A port that the kernel picks: two runs beside each other get different ones."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(config: Path, port: int, log: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "orchestrator.adapter.serve", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, env={**os.environ, "ADAPTER_CONFIG": str(config)}, stderr=out)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                httpx.get(f"{url}/healthz").raise_for_status()
                break
            except httpx.TransportError:
                assert process.poll() is None, log.read_text()
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(10)
