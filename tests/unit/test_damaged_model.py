"""One model that Ollama itself cannot read must not hide the others."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from orchestrator.decide.planning import decide_plan
from orchestrator.facts import Facts, Gpu
from orchestrator.observe import ollama

GOOD, BAD = "llama3.1:8b", "torn:7b"
INFO = {"general.architecture": "llama", "llama.block_count": 32, "llama.embedding_length": 4096,
        "llama.attention.head_count": 32, "llama.attention.head_count_kv": 8, "llama.context_length": 131072,
        "llama.vocab_size": 128256, "llama.feed_forward_length": 14336}  # fmt: skip


class Half(BaseHTTPRequestHandler):
    """An Ollama with one sound model and one whose file is cut off."""

    def _send(self, status: int, body: dict) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self) -> None:
        tags = [{"name": name, "size": 5 * 2**30, "digest": name, "capabilities": ["completion"]} for name in (BAD, GOOD)]
        self._send(200, {"/api/version": {"version": "0.32.6"}, "/api/tags": {"models": tags}}.get(self.path, {}))

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked["model"] == BAD:
            return self._send(500, {"error": "unexpected EOF"})
        return self._send(200, {"model_info": INFO, "capabilities": ["completion"]})

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Half)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_others_are_planned_and_the_damaged_one_stays_with_ollamas_words(url: str) -> None:
    found = ollama.look(url)
    assert [model.name for model in found.models] == [BAD, GOOD]
    size = 80 * 2**30
    gpu = Gpu("0", "GPU-0", "test", size, size, 9.0)
    planned = decide_plan("main", Facts(found, gpus=(gpu,)), force=True)
    assert planned.proposal is not None
    assert list(planned.spec.migrating()) == [GOOD]
    assert "unexpected EOF" in planned.proposal.stays[BAD]
