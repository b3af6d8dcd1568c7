"""The ASGI side of an answer: headers with the first byte, disconnects noticed, one log line."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from orchestrator.adapter.ask import Ask
from orchestrator.adapter.engine import Engines
from orchestrator.adapter.exchange import Answer, converse
from orchestrator.adapter.pieces import Tally
from orchestrator.adapter.refusals import EngineFault, Refusal, refusal_of, runner_error
from orchestrator.adapter.wire import JSON, encode

T = TypeVar("T")
Refuse = Callable[[Refusal, bool], tuple[str, str]]  # the refusal, and whether a stream was asked for


def log(**fields: object) -> None:
    """Write one JSON line to stderr."""
    sys.stderr.write(json.dumps({"ts": round(time.time(), 3), **fields}, ensure_ascii=False) + "\n")
    sys.stderr.flush()


def unexpected(error: Exception) -> Refusal:
    """Log an error that nobody foresaw, without any word of a request; return what the client is told."""
    at = error.__traceback__
    while at and at.tb_next:
        at = at.tb_next
    where = f"{Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno}" if at else ""
    log(event="unexpected", error=type(error).__name__, where=where)
    return Refusal(500, "internal error of the adapter; its log says where")


async def reply(send: Send, status: int, kind: str, text: str) -> None:
    """Send a whole response."""
    body = encode(text)
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def watched(receive: Receive, relay: Coroutine[None, None, None]) -> bool:
    """Run a relay until it ends or the client leaves, at which it is cancelled; return whether it stayed."""
    work = asyncio.ensure_future(relay)
    gone = asyncio.ensure_future(_client_left(receive))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        stayed = work.done()
    finally:
        work.cancel()
        gone.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)
    if stayed:
        work.result()
    return stayed


async def unless_left(receive: Receive, work: Coroutine[None, None, T]) -> T:
    """Return what a question to the engine brings; it is given up, with ClientDisconnect, when the client leaves.

    The request's body must have been read.
    """
    found: list[T] = []

    async def run() -> None:
        found.append(await work)

    if not await watched(receive, run()):
        raise ClientDisconnect
    return found[0]


class Conversation:
    """An ASGI response that asks the engine and relays its answer without buffering.

    The status is decided when the first text is there, so that an engine that dies before it is an error
    status and the gateway can still turn to the other side.
    """

    def __init__(self, engines: Engines, question: Ask, answer: Answer, refuse: Refuse) -> None:
        self._engines = engines
        self._question = question
        self._answer = answer
        self._refuse = refuse
        self._tally = Tally(started=time.monotonic_ns())
        self._status = 0
        self._outcome = "complete"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if not await watched(receive, self._relay(send)):
                self._outcome = "client_left"
        finally:
            self._log(scope["path"])

    async def _relay(self, send: Send) -> None:
        try:
            async with aclosing(converse(self._engines, self._question, self._answer, self._tally)) as texts:
                async for text in texts:
                    await self._send(send, text)
        except EngineFault as fault:
            await self._fail(send, fault)
        except OSError:
            raise       # the client's connection
        except Exception as error:  # noqa: BLE001  (the last net: a client gets Ollama's form whatever happens)
            await self._fail(send, EngineFault(500, unexpected(error).message))
        else:
            if self._question.stream:
                await send({"type": "http.response.body", "body": b""})

    async def _send(self, send: Send, text: str) -> None:
        if not self._question.stream:
            self._status = 200
            await reply(send, 200, self._answer.whole_type, text)
            return
        if not self._status:
            self._status = 200
            headers = [(b"content-type", self._answer.stream_type.encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": encode(text), "more_body": True})

    async def _fail(self, send: Send, fault: EngineFault) -> None:
        if self._status:
            self._outcome = "error"
            text = self._answer.error(runner_error(fault.message))
            await send({"type": "http.response.body", "body": encode(text), "more_body": False})
            return
        refusal = refusal_of(fault, self._question.name, self._question.route.context_length)
        self._status = refusal.status
        self._outcome = "error" if refusal.status >= 500 else "complete"
        kind, text = self._refuse(refusal, self._question.stream)
        await reply(send, refusal.status, kind, text)

    def _log(self, path: str) -> None:
        tally = self._tally
        line: JSON = {"path": path, "route": self._question.route.name, "engine": self._question.route.engine}
        line |= {"status": self._status or 499, "outcome": self._outcome, "stream": self._question.stream}
        if tally.first:
            line["ttft_ms"] = round((tally.first - tally.started) / 1e6, 1)
        line["total_ms"] = round((time.monotonic_ns() - tally.started) / 1e6, 1)
        log(**line, prompt_tokens=tally.prompt_tokens, tokens=tally.tokens)


async def _client_left(receive: Receive) -> None:
    """Return when the client is gone: uvicorn says so, but does not cancel an application for it."""
    while (await receive())["type"] != "http.disconnect":
        pass
