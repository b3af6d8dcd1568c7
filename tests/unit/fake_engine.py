"""A small OpenAI-compatible server for the tests: its behaviour per request is a plain function.

`Engine(behave)` runs in a thread; `behave(body)` returns a `Reply`. Nothing in it is clever.
"""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass, field


@dataclass
class Reply:
    tokens: list[str] = field(default_factory=lambda: ["a", "b", "c"])
    status: int = 200
    finish: str | None = "length"
    usage: bool = True
    done: bool = True
    model: str | None = None
    error: str | None = None
    gap_s: float = 0.0
    at_once: bool = False
    cut: bool = False
    hang: bool = False
    prompt_tokens: int = 5


class Engine:
    def __init__(self, behave=lambda body: Reply()):
        self.behave, self.bodies, self.headers = behave, [], []
        self.on_end = lambda: None
        self.page = None    # what GET /metrics shows; None: there is none
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        start = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result(5)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(self, *_):
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _stop(self):
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
                body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or b"{}")
                if head.startswith(("GET /metrics ", "GET /api/ps ")):
                    await self._page(writer)
                    continue
                self.bodies.append(body)
                self.headers.append(headers)
                reply = self.behave(body)
                if reply.hang:
                    await reader.read()
                    return
                try:
                    await self._answer(writer, body, reply)
                finally:
                    self.on_end()
                if reply.cut:
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _page(self, writer):
        page = self.page.encode() if self.page is not None else b""
        status = 200 if page else 404
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(page)}\r\n\r\n".encode() + page)
        await writer.drain()

    async def _answer(self, writer, body, reply):
        if reply.status != 200:
            return await self._whole(writer, reply.status, {"error": {"message": reply.error or "no"}})
        usage = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": len(reply.tokens)}
        model = reply.model or body.get("model")
        if not body.get("stream"):
            choice = {"message": {"content": "".join(reply.tokens)}, "finish_reason": reply.finish}
            document = {"model": model, "choices": [choice]} | ({"usage": usage} if reply.usage else {})
            await asyncio.sleep(reply.gap_s * len(reply.tokens))
            return await self._whole(writer, 200, document)
        return await self._stream(writer, model, usage, reply)

    async def _stream(self, writer, model, usage, reply):
        events = [self._delta(model, role="assistant", content="")]
        events += [self._delta(model, content=token) for token in reply.tokens]
        if reply.finish:
            events.append(self._delta(model, finish=reply.finish))
        if reply.error:
            events.append({"error": {"message": reply.error}})
        if reply.usage:
            events.append({"model": model, "choices": [], "usage": usage})
        lines = [f"data: {json.dumps(event)}\n\n" for event in events] + ["data: [DONE]\n\n"] * reply.done
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        lines = lines[:2] if reply.cut else lines
        for line in ["".join(lines)] if reply.at_once else lines:
            writer.write(f"{len(line.encode()):x}\r\n{line}\r\n".encode())
            await writer.drain()
            await asyncio.sleep(0 if reply.at_once else max(reply.gap_s, 0.001))
        if not reply.cut:
            writer.write(b"0\r\n\r\n")

    @staticmethod
    def _delta(model, finish=None, **delta):
        return {"model": model, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    @staticmethod
    async def _whole(writer, status, document):
        data = json.dumps(document).encode()
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
        await writer.drain()
