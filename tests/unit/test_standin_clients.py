"""Real clients talk to the stand-ins; the stand-in Ollama as a program, with its logs."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ollama as ollama_client
import openai
import pytest
import standin_servers

from orchestrator.standin.ollama import golang, logs, settings

GIN = re.compile(
    r"\[GIN\] (\d{4}/\d\d/\d\d - \d\d:\d\d:\d\d) \|\s*(\d{3})\s*\|\s*(\S+)\s*\|\s*(\S+)\s*\|\s*([A-Z]+)\s+\"([^\"]*)\""
)
QUESTION = [{"role": "user", "content": "Tell me a story"}]


@contextmanager
def native(url: str) -> Iterator[ollama_client.Client]:
    """Return the real client; it has no public way to close its connections."""
    client = ollama_client.Client(host=url)
    yield client
    client._client.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    running = standin_servers.ollama(tmp_path_factory.mktemp("models"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def vllm() -> Iterator:
    running = standin_servers.vllm("m-8b", "--served-model-name", "llama3.1:8b", "--reasoning-parser", "qwen3")
    yield running
    running.stop()


def test_the_ollama_client_chats_streams_embeds_and_lists(server) -> None:
    with native(server.url) as client:
        whole = client.chat("llama3.1:8b", QUESTION, options={"temperature": 0, "num_predict": 9})
        parts = list(client.chat("llama3.1:8b", QUESTION, stream=True, options={"temperature": 0, "num_predict": 9}))
        assert "".join(p.message.content for p in parts) == whole.message.content
        assert (parts[-1].done, parts[-1].done_reason, parts[-1].eval_count) == (True, "length", 9)
        assert client.generate("llama3.1:8b", "x", options={"num_predict": 2}).context
        assert len(client.embed("nomic-embed-text", ["a", "b"]).embeddings) == 2
        assert {m.model for m in client.list().models} >= {"llama3.1:8b", "qwen3:0.6b", "nomic-embed-text:latest"}
        assert client.show("llama3.1:8b").modelinfo["llama.block_count"] == 32
        assert [m.model for m in client.ps().models]


def test_a_thinking_model_thinks_unless_told_not_to(server) -> None:
    with native(server.url) as client:
        thinking = client.chat("qwen3:0.6b", QUESTION, options={"temperature": 0, "num_predict": 60})
        silent = client.chat("qwen3:0.6b", QUESTION, think=False, options={"temperature": 0, "num_predict": 60})
        assert thinking.message.thinking
        assert silent.message.thinking is None
        assert silent.message.content.startswith(thinking.message.content)


def test_the_ollama_client_reads_errors(server) -> None:
    with native(server.url) as client:
        with pytest.raises(ollama_client.ResponseError, match="model 'nope' not found") as error:
            client.chat("nope", QUESTION)
        assert error.value.status_code == 404


@pytest.mark.parametrize("side", ["server", "vllm"])
def test_the_openai_client_chats_and_streams(side: str, request: pytest.FixtureRequest) -> None:
    client = openai.OpenAI(base_url=request.getfixturevalue(side).url + "/v1", api_key="none", max_retries=0)
    given = {"model": "llama3.1:8b", "messages": QUESTION, "temperature": 0, "max_tokens": 40}
    whole = client.chat.completions.create(**given)
    chunks = list(client.chat.completions.create(**given, stream=True, stream_options={"include_usage": True}))
    spoken = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert spoken == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert client.models.list().data
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(**{**given, "model": "nope"})
    client.close()


def test_a_backend_lends_its_texts(tmp_path: Path) -> None:
    from orchestrator.standin.backend import Backend

    engine = standin_servers.vllm("other-8b", "--served-model-name", "whatever")
    front = standin_servers.ollama(tmp_path, backend=Backend(engine.url))
    with native(front.url) as client:
        options = {"temperature": 0, "num_predict": 8}
        ours = client.chat("llama3.1:8b", QUESTION, options=options)
        direct = openai.OpenAI(base_url=engine.url + "/v1", api_key="none")
        theirs = direct.chat.completions.create(model="whatever", messages=QUESTION, temperature=0, max_tokens=8)
        assert ours.message.content == theirs.choices[0].message.content
        assert ours.prompt_eval_count == theirs.usage.prompt_tokens
        direct.close()
        front.stop()
        engine.stop()


def test_access_lines_have_gins_format() -> None:
    line = logs.gin_line(200, 36_088_775_013, "127.0.0.1", "POST", "/api/chat", 1713815108.0)
    assert line == '[GIN] 2024/04/22 - 19:45:08 | 200 | 36.088775013s |       127.0.0.1 | POST     "/api/chat"'
    line = logs.gin_line(200, 453_235, "192.168.99.20", "GET", "/api/tags", 1702065368.0)
    assert line == '[GIN] 2023/12/08 - 19:56:08 | 200 |     453.235µs |   192.168.99.20 | GET      "/api/tags"'
    assert GIN.fullmatch(line)
    assert logs.gin_line(499, 90_500_000_000, "::1", "POST", "/", 0.0).split("|")[2].strip() == "1m30s"


@pytest.mark.parametrize(
    ("ns", "shown"),
    [
        (0, "0s"),
        (999, "999ns"),
        (1_500, "1.5µs"),
        (838_879_400, "838.8794ms"),
        (300 * 10**9, "5m0s"),
        (3_601 * 10**9, "1h0m1s"),
    ],
)
def test_durations_are_gos(ns: int, shown: str) -> None:
    assert golang.duration(ns) == shown


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("0.0.0.0", ("0.0.0.0", 11434)),
        (":8080", ("127.0.0.1", 8080)),
        ("http://h:1", ("h", 1)),
        ("", ("127.0.0.1", 11434)),
    ],
)
def test_ollama_host(text: str, place: tuple[str, int]) -> None:
    assert settings.split_host(text) == place


@pytest.fixture
def program(tmp_path: Path) -> Iterator[tuple[subprocess.Popen, dict[str, str]]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    env = {**os.environ, "OLLAMA_HOST": f"127.0.0.1:{port}", "OLLAMA_MODELS": str(tmp_path), "STANDIN_LOAD_S": "0"}
    env["STANDIN_TEXT_TOKENS"] = "5000"
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        serving = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.standin.ollama", "serve"], env=env, stdout=out, stderr=err
        )
    env["LOGS"] = str(tmp_path)
    yield serving, env
    serving.kill()
    serving.wait()


def run(env: dict[str, str], *argv: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "orchestrator.standin.ollama", *argv]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=30)


def test_the_program_serves_lists_logs_and_dies_at_once(program) -> None:
    serving, env = program
    while run(env, "ps").returncode:
        assert serving.poll() is None
        time.sleep(0.05)
    assert "llama3.1:8b" in run(env, "list").stdout
    with native(f"http://{env['OLLAMA_HOST']}") as client:
        parts = client.generate("llama3.1:8b", "go on", stream=True, options={"num_predict": 5000})
        next(parts)
        serving.send_signal(signal.SIGTERM)
        with pytest.raises(Exception, match=r"peer closed|incomplete|disconnected"):
            for _ in parts:
                pass
        assert serving.wait(10) == 0
        lines = (Path(env["LOGS"]) / "out").read_text().splitlines()
        found = [GIN.fullmatch(line) for line in lines]
        assert all(found), lines
        assert [(m[5], m[6]) for m in found if m][:2] == [("HEAD", "/"), ("GET", "/api/ps")]
        started = (Path(env["LOGS"]) / "err").read_text()
        for words in ("server config", "Listening on 127.0.0.1:", "inference compute", "vram-based default context"):
            assert words in started
        down = run(env, "ps")
        assert down.returncode == 1
        assert "could not connect to ollama server" in down.stderr
