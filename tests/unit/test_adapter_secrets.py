"""The adapter writes no prompt, answer, key or query string, whatever goes wrong."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from starlette.testclient import TestClient

from orchestrator.adapter import config as adapter
from orchestrator.adapter.app import Adapter
from tests.unit import standin_servers

SECRET = "s3cret"
ANSWERS = {
    "an error with the prompt in it": (400, f'{{"error":{{"message":"bad: {SECRET}-prompt","code":400}}}}'),
    "a fault with the prompt in it": (500, f"Traceback: {SECRET}-prompt"),
    "no JSON": (200, f"{SECRET}-answer"),
    "another shape": (200, f'{{"choices":"{SECRET}-answer"}}'),
    "a broken stream": (200, f'data: {{"choices":[{{"delta":{{"content":"{SECRET}-answer"'),
}


@contextmanager
def engine(status: int, text: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(status)
            self.send_header("content-type", "text/event-stream" if text.startswith("data:") else "application/json")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def standin() -> Iterator[str]:
    running = standin_servers.vllm("m:1")
    try:
        yield running.url
    finally:
        running.stop()


@contextmanager
def nobody() -> Iterator[str]:
    yield "http://127.0.0.1:1"


ENGINES: dict[str, Callable[[], Any]] = {"a good engine": standin, "no engine": nobody}
ENGINES |= {name: (lambda answer=answer: engine(*answer)) for name, answer in ANSWERS.items()}


def bodies() -> Iterator[tuple[str, bytes]]:
    message = {"role": "user", "content": f"{SECRET}-prompt"}
    for stream in (True, False):
        whole = {"model": "m:1", "stream": stream}
        chat = {**whole, "messages": [{"role": "system", "content": f"{SECRET}-system"}, message], "max_tokens": 4}
        for path, body in (
            ("/api/chat", {**chat, "options": {"num_predict": 4, "stop": [f"{SECRET}-stop"]}}),
            ("/api/generate", {**whole, "prompt": f"{SECRET}-prompt", "options": {"num_predict": 4}}),
            ("/v1/chat/completions", {**chat, "user": f"{SECRET}-user", "logit_bias": {f"{SECRET}-bias": 1}}),
            ("/v1/completions", {**whole, "prompt": f"{SECRET}-prompt", "max_tokens": 4}),
            ("/v1/responses", {**whole, "input": f"{SECRET}-prompt", "max_output_tokens": 4}),
            ("/v1/messages", {**whole, "messages": [message], "max_tokens": 4}),
            ("/api/embed", {"model": "m:1", "input": f"{SECRET}-prompt"}),
        ):
            text = json.dumps(body).encode()
            yield path, text
            yield path, text[:-1]
            yield path, text.replace(b'"user", "content": "', b'"user", "content": {"x": "')
            yield path, text.replace(b'"m:1"', f'"{SECRET}-model"'.encode())


@pytest.mark.parametrize("name", ENGINES)
def test_nothing_that_is_written_holds_what_was_sent(
    name: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)   # as the adapter's server runs
    headers = {"Authorization": f"Bearer {SECRET}-key", "X-Api-Key": f"{SECRET}-key", "Cookie": f"a={SECRET}-cookie",
               "Content-Type": "application/json"}  # fmt: skip
    asked, escaped = 0, []
    with ENGINES[name]() as url:
        routes = {"m:1": {"engine": "e", "url": url, "served": "m:1", "system": f"{SECRET}-system"}}
        known = adapter.parse({"routes": routes, "version": "1", "ollama": "http://127.0.0.1:1"})
        with TestClient(Adapter(lambda: known).app()) as client:
            for path, body in bodies():
                asked += 1
                try:
                    client.post(f"{path}?key={SECRET}-query", content=body, headers=headers)
                except Exception as error:  # noqa: BLE001 - whatever escapes, the server writes its words
                    escaped.append(repr(error))
    written = [*capfd.readouterr().err.splitlines(), *caplog.text.splitlines(), *escaped]
    assert asked == 56
    assert [line for line in written if '"path"' in line], "requests were logged at all"
    assert [line for line in written if SECRET in line] == []
