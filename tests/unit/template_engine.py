"""An engine that only renders: /tokenize with a Jinja chat template, as vLLM answers it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jinja2

SPECIAL = re.compile(r"(<\|(?:begin|end|system|user|assistant|tool)\|>)")
PIECE = re.compile(r"\s?\w{1,3}|\s|[^\w\s]")


def letters() -> dict[int, str]:
    """The letters that byte-level vocabularies use for bytes, written down anew."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    rest = iter(range(256, 512))
    return {byte: chr(byte) if byte in plain else chr(next(rest)) for byte in range(256)}


LETTERS = letters()


def tokens(text: str) -> list[str]:
    found = []
    for part in SPECIAL.split(text):
        pieces = [part] if SPECIAL.fullmatch(part) else ["".join(LETTERS[b] for b in w.encode()) for w in PIECE.findall(part)]
        found += pieces
    return found


def render(template: str, body: dict[str, Any]) -> str:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False)
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    for message in body["messages"]:
        for call in message.get("tool_calls") or ():
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    said = {"messages": body["messages"], "tools": body.get("tools")}
    return environment.from_string(template).render(add_generation_prompt=body.get("add_generation_prompt", True), **said)


@contextmanager
def engine(template: str, context: int = 1024) -> Iterator[str]:
    """Serve one template; yields the base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
            status, said = 404, {"detail": "Not Found"}
            if self.path == "/tokenize":
                found = tokens(render(body.get("chat_template") or template, body))
                status, said = 200, {"count": len(found), "max_model_len": context, "tokens": [], "token_strs": found}
            data = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = answer  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
