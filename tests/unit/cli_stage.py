"""Runs the command line as a user does, in a process of its own; and an Ollama of a few lines for it to look at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL = "qwen2.5:0.5b"
DETAILS = {"family": "qwen2", "parameter_size": "494.03M", "quantization_level": "Q4_K_M", "format": "gguf"}
ANSWERS = {
    "/api/version": {"version": "0.32.6"},
    "/api/tags": {"models": [
        {"name": MODEL, "model": MODEL, "size": 397821319, "digest": "a8b0c51577010a279d933d14c2a8ab4b268079d44c5c8830c0a93900f1827c67",
         "modified_at": "2025-01-01T00:00:00Z", "details": DETAILS, "capabilities": ["completion", "tools"]},
    ]},
    "/api/ps": {"models": []},
    "/api/show": {
        "modelfile": "", "parameters": "", "template": "{{ .Prompt }}", "details": DETAILS,
        "capabilities": ["completion", "tools"],
        "model_info": {"general.architecture": "qwen2", "qwen2.block_count": 24, "qwen2.context_length": 32768,
                       "qwen2.embedding_length": 896, "qwen2.attention.head_count": 14,
                       "qwen2.attention.head_count_kv": 2, "general.parameter_count": 494032768},
    },
}  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = ANSWERS.get(self.path)
        body = json.dumps(found if found is not None else {"error": "not found"}).encode()
        self.send_response(200 if found is not None else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer  # noqa: N815 - the library's names

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def ollama() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def migrate(folder: Path, *words: str, docker: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `migrate` in `folder`; without `docker` no program at all is on the PATH."""
    kept = {key: os.environ[key] for key in ("HOME", "LANG") if key in os.environ}
    path = os.environ["PATH"] if docker else str(folder / "no-such-folder")
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *words],
        cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        env={**kept, "PATH": path, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
