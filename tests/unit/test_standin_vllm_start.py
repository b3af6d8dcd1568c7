"""The stand-in vLLM's command line and start-up, and how it ends: as processes."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.standin.vllm import flags, startlog, startup

CHAT = json.dumps(
    {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "max_tokens": 120,
        "ignore_eos": True,
    }
)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Process:
    """One stand-in vLLM as a process of its own; `ready` is set by its log."""

    def __init__(self, *argv: str, **env: str) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "orchestrator.standin.vllm", "serve", *argv]
        given = {**os.environ, "STANDIN_START_S": "0.1", "STANDIN_TOKEN_MS": "20", **env}
        self.process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(self.port)],
            env=given, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.log: list[str] = []
        self.connections: list[http.client.HTTPConnection] = []
        self.ready = threading.Event()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stderr
        with self.process.stderr as lines:
            for line in lines:
                self.log.append(line)
                if "Application startup complete." in line:
                    self.ready.set()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def stream(self) -> http.client.HTTPResponse:
        connection = self.connect()
        self.connections.append(connection)
        connection.request("POST", "/v1/chat/completions", CHAT, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.readline()
        return answer

    def code(self) -> int:
        code = self.process.wait(30)
        self.reader.join(10)
        return code


@pytest.fixture
def vllm() -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(*argv: str, wait: bool = True, **env: str) -> Process:
        started.append(Process(*argv, **env))
        assert not wait or started[-1].ready.wait(30), started[-1].log
        return started[-1]

    yield start
    for one in started:
        for connection in one.connections:
            connection.close()
        one.process.kill()
        one.process.wait()
        one.reader.join(10)


@pytest.mark.parametrize("removed", ["--swap-space", "--task", "--disable-log-requests", "--guided-decoding-backend"])
def test_unknown_and_removed_flags_exit_with_2(removed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        flags.parse(["serve", "m", removed, "4"], {})
    assert stop.value.code == 2
    assert f"vllm: error: unrecognized arguments: {removed} 4" in capsys.readouterr().err


def test_flags_are_read_as_the_real_parser_does() -> None:
    options = flags.parse(
        ["serve", "m", "--gpu-memory-util", "0.5", "--kv-cache-memory", "2G", "--max-model-len=8k"], {}
    )
    assert (options.utilization, options.kv_bytes, options.max_model_len) == (0.5, 2 * 1024**3, 8000)
    assert flags.parse(["serve"], {}).model == "Qwen/Qwen3-0.6B"
    moved = flags.parse(["serve", "--model", "x"], {})
    assert (moved.model, moved.used_model_flag) == ("x", True)
    assert flags.parse(["serve", "m", "--api-key", "a", "b"], {}).keys == ("a", "b")
    assert flags.parse(["serve", "m"], {"VLLM_API_KEY": "k"}).keys == ("k",)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--enable-auto-tool-choice"], "TypeError: Error: --enable-auto-tool-choice requires --tool-call-parser"),
        (["--tool-call-parser", "nope"], "KeyError: 'invalid tool call parser: nope (chose from {"),
    ],
)
def test_tool_flags_are_checked_first(argv: list[str], words: str) -> None:
    with pytest.raises(startlog.Failure) as failure:
        startup.validate(flags.parse(["serve", "m", *argv], {}))
    assert str(failure.value).startswith(words)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (
            ["org/m-8b", "--max-model-len", "999999"],
            "User-specified max_model_len (999999) is greater than the derived",
        ),
        (["org/m-8b", "--quantization", "gguf"], "Unknown quantization method: gguf"),
        (["org/m-8b", "--gpu-memory-utilization", "1.5"], "Input should be less than or equal to 1"),
        (["/models/none"], "Repo id must be in the form"),
    ],
)
def test_configurations_that_cannot_be_served(argv: list[str], words: str) -> None:
    with pytest.raises(startlog.Failure) as failure:
        startup.configure(flags.parse(["serve", *argv], {}))
    assert words in str(failure.value)


def test_nobody_is_answered_before_the_engine_is_ready(vllm) -> None:
    slow = vllm("m", wait=False, STANDIN_START_S="3")
    while not any("Resolved architecture" in line for line in slow.log):
        assert slow.process.poll() is None
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", slow.port), 5)
    assert slow.ready.wait(30)
    connection = slow.connect()
    connection.request("GET", "/health")
    assert connection.getresponse().status == 200
    connection.close()


def test_a_port_in_use_fails_before_loading(vllm) -> None:
    first = vllm("m")
    second = subprocess.run(
        [sys.executable, "-m", "orchestrator.standin.vllm", "serve", "m", "--host", "127.0.0.1", "--port", str(first.port)],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert second.returncode == 1
    assert "OSError: [Errno 98] Address already in use" in second.stderr
    assert "Starting to load model" not in second.stderr


def test_a_dead_engine_ends_streams_with_an_error_and_the_process_with_0(vllm, tmp_path: Path) -> None:
    dying = vllm("m", STANDIN_FAULTS=str(tmp_path))
    answer = dying.stream()
    (tmp_path / "die").touch()
    rest = answer.read().decode()
    assert rest.endswith("data: [DONE]\n\n")
    last = json.loads(rest.split("data: ")[-2])
    assert last["error"]["type"] == "InternalServerError"
    assert last["error"]["code"] == 500
    assert dying.code() == 0


def test_sigterm_with_a_timeout_lets_streams_end_and_refuses_new_ones(vllm) -> None:
    draining = vllm("m", "--shutdown-timeout", "20")
    answer = draining.stream()
    draining.process.send_signal(signal.SIGTERM)
    status = 200
    while status == 200:
        connection = draining.connect()
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1})
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        refused = connection.getresponse()
        status, words = refused.status, refused.read().decode()
        connection.close()
    assert status == 500
    assert json.loads(words)["error"]["message"] == "cannot schedule new futures after shutdown"
    assert answer.read().decode().endswith("data: [DONE]\n\n")
    assert draining.code() == 0


def test_sigterm_without_a_timeout_leaves_streams_hanging(vllm) -> None:
    stopping = vllm("m")
    answer = stopping.stream()
    stopping.process.send_signal(signal.SIGTERM)
    while True:
        try:
            socket.create_connection(("127.0.0.1", stopping.port), 5).close()
        except (ConnectionRefusedError, ConnectionResetError):  # the listener closes while one knocks
            break
    assert stopping.process.poll() is None, "it waits for its clients"
    answer.close()
    stopping.connections[0].close()
    assert stopping.code() == 0


def test_lora_modules_are_listed_and_their_answers_bear_their_name(vllm: Callable[..., Process]) -> None:
    two = ["--enable-lora", "--lora-modules", "support=/a/support", '{"name": "legal", "path": "/a/legal"}']
    one = vllm("m", "--served-model-name", "base", *two)

    def ask(method: str, path: str, body: str | None = None) -> tuple[int, dict]:
        connection = one.connect()
        connection.request(method, path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        found = answer.status, json.loads(answer.read())
        connection.close()
        return found

    _, listed = ask("GET", "/v1/models")
    shown = {card["id"]: (card["root"], card["parent"]) for card in listed["data"]}
    assert shown == {"base": ("m", None), "support": ("/a/support", "base"), "legal": ("/a/legal", "base")}
    for name, code in (("base", 200), ("support", 200), ("Support", 404)):
        body = {"model": name, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        status, answer = ask("POST", "/v1/chat/completions", json.dumps(body))
        assert (status, answer.get("model", name)) == (code, name)
