"""A real vLLM in a container, and a man in the middle who plants one difference in what is asked of it."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from demo.scene import SHARED_CPU, TINY, models_folder

Json = dict[str, Any]
Change = Callable[[str, Json], Json]
MODEL = "llama3.1:8b"
IMAGE = "migrate/vllm-cpu:dev"
TEMPLATES = Path(__file__).parent / "templates"
READY_S = 240
CONTEXT = 1024


@contextmanager
def engine(*argv: str, template: str = "tools.jinja", context: int = CONTEXT) -> Iterator[str]:
    """A vLLM on the host's network, ready; with tools in its template, which a request may replace."""
    port, name = open_port(), f"migrate-planted-{uuid.uuid4().hex[:8]}"
    env = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", **SHARED_CPU}
    given = [word for key, value in env.items() for word in ("-e", f"{key}={value}")]
    parser = () if "--tool-call-parser" in argv else ("--tool-call-parser", "hermes")
    subprocess.run([
        "docker", "run", "-d", "--name", name, "--network", "host", "--shm-size", "1g", *given,
        "-v", f"{models_folder()}:/models:ro", "-v", f"{TEMPLATES}:/templates:ro", IMAGE, TINY,
        "--served-model-name", MODEL, "--host", "127.0.0.1", "--port", str(port), "--max-model-len", str(context),
        "--max-num-seqs", "16", "--enforce-eager", "--generation-config", "vllm", "--enable-auto-tool-choice", *parser,
        "--chat-template", f"/templates/{template}", "--trust-request-chat-template", *argv,
    ], check=True, capture_output=True)
    try:
        yield wait(f"http://127.0.0.1:{port}", name)
    finally:
        subprocess.run(["docker", "rm", "-f", name], check=False, capture_output=True)


def open_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait(url: str, name: str) -> str:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/health", trust_env=False).status_code == 200:
                return url
        except httpx.TransportError:
            time.sleep(0.5)
        state = subprocess.run(["docker", "inspect", "-f", "{{.State.Running}}", name], check=False, capture_output=True)
        if state.stdout.strip() != b"true":
            break
    done = subprocess.run(["docker", "logs", "--tail", "40", name], check=False, capture_output=True, text=True)
    raise AssertionError(done.stdout + done.stderr)


@contextmanager
def between(url: str, change: Change) -> Iterator[str]:
    """A server before `url` that changes each request's JSON."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            try:
                asked = json.loads(body)
                body = json.dumps(change(self.path, asked)).encode() if isinstance(asked, dict) else body
            except ValueError:
                pass
            headers = {name: value for name, value in self.headers.items() if name.lower() == "content-type"}
            answer = client.request(self.command, url + self.path, content=body, headers=headers)
            self.send_response(answer.status_code)
            self.send_header("content-type", answer.headers.get("content-type", ""))
            self.send_header("content-length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = pass_on  # noqa: N815

    client = httpx.Client(timeout=120, trust_env=False)
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
        client.close()


# what is planted in prompts, and what it is called


OWN = (TEMPLATES / "tools.jinja").read_text()
CHATML = OWN
for ours, theirs in (("<|{{ message['role'] }}|>", "<|im_start|>{{ message['role'] }}\n"), ("<|end|>", "<|im_end|>\n"),
                     ("<|system|>", "<|im_start|>system\n"), ("<|assistant|>", "<|im_start|>assistant\n")):
    CHATML = CHATML.replace(ours, theirs)


def template(text: str) -> Change:
    """A request that renders with another template."""
    def change(path: str, body: Json) -> Json:
        renders = "messages" in body and path in ("/tokenize", "/v1/chat/completions", "/invocations")
        return {**body, "chat_template": text} if renders else body
    return change


def without_system(_: str, body: Json) -> Json:
    if "messages" not in body:
        return body
    return {**body, "messages": [one for one in body["messages"] if one.get("role") != "system"]}


def last_messages(_: str, body: Json) -> Json:
    """The window of a server that drops the oldest turns and keeps the system prompt."""
    said = body.get("messages", [])
    return {**body, "messages": [one for one in said[:1] if one["role"] == "system"] + said[-1:]} if said else body


PROMPTS: list[tuple[Change, str]] = [
    (template(CHATML), "other template"),
    (template("{{ '<|begin|><|begin|>' }}" + OWN), "BOS twice"),
    (without_system, "system prompt missing"),
    (template(OWN.replace("{{ tool | tojson }}", "{{ tool['function']['name'] }}: {{ tool['function'] | tojson }}")),
     "tools rendered differently"),
    (template(OWN.replace("{%- if tools %}", "{%- if false %}")), "tools missing"),
    (last_messages, "context truncated"),
    (template(OWN.replace("<|assistant|>{% endif -%}", "{% endif -%}")), "generation prompt differs"),
]


# what is planted in the contract, the group where it shows, and what it is called


def without_stop(_: str, body: Json) -> Json:
    return {key: value for key, value in body.items() if key != "stop"}


def colder(_: str, body: Json) -> Json:
    return {"temperature": 0.5, **body} if "messages" in body else body


def longer(_: str, body: Json) -> Json:
    return {**body, "max_tokens": 40} if "max_tokens" in body else body


CONTRACT: list[tuple[Change, str, str]] = [
    (without_stop, "stop", "dropped stop word"),
    (colder, "sampling", "other temperature default"),
    (without_system, "system", "system prompt missing"),
    (longer, "limits", "limit not kept"),
]
