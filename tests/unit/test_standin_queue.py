"""Who runs, who waits, what stays in memory: the stand-in Ollama's scheduler and vLLM's batch."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import standin_servers

from orchestrator.standin.ollama.settings import Settings

BUSY = "server busy, please try again.  maximum pending requests exceeded"


@pytest.fixture
def ollama(tmp_path: Path) -> Iterator[Callable]:
    running = []

    def start(**settings):
        chosen = Settings(**{"load_s": 0, "token_s": 0.004, "prompt_s": 0, **settings})
        running.append(standin_servers.ollama(tmp_path, chosen))
        return running[-1]

    yield start
    for server in running:
        server.stop()


def request(**more) -> dict:
    body = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "hi"}], "options": {"num_predict": 20}}
    return {**body, **more}


class Client(threading.Thread):
    """One streaming client; `marks` is shared, so that it tells the order of what all clients saw."""

    def __init__(self, server, number: int, marks: list, path: str = "/api/chat", **more) -> None:
        super().__init__(daemon=True)
        self.server, self.number, self.marks, self.path, self.more = server, number, marks, path, more
        self.first = threading.Event()
        self.status = 0

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        body = json.dumps(request(**self.more))
        connection.request("POST", self.path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        self.status = answer.status
        while line := answer.readline():
            if line.strip():
                self.marks.append(self.number)
                self.first.set()
        connection.close()


def run_all(clients: list[Client]) -> None:
    for client in clients:
        client.start()
    for client in clients:
        client.join(30)
        assert not client.is_alive()


def changes(marks: list) -> int:
    return sum(a != b for a, b in pairwise(marks))


def test_one_slot_serves_one_after_the_other(ollama) -> None:
    server, marks = ollama(num_parallel=1), []
    run_all([Client(server, i, marks) for i in range(3)])
    assert changes(marks) == 2, "a second answer began before the first had ended"


def test_two_slots_serve_two_at_once(ollama) -> None:
    server, marks = ollama(num_parallel=2), []
    server.post("/api/generate", {"model": "llama3.1:8b"})
    run_all([Client(server, i, marks) for i in range(2)])
    assert changes(marks) > 2


def test_vllm_runs_at_most_max_num_seqs_and_counts_the_waiting() -> None:
    server, marks = (
        standin_servers.vllm("m-8b", "--served-model-name", "llama3.1:8b", "--max-num-seqs", "1", token_s=0.02),
        [],
    )
    clients = [Client(server, i, marks, "/v1/chat/completions", stream=True, max_tokens=30) for i in range(3)]
    for client in clients:
        client.start()
    clients[0].first.wait(10)
    waiting = 0.0
    while any(c.is_alive() for c in clients) and waiting < 1:
        lines = server.ask("GET", "/metrics")[2].splitlines()
        running = next(float(x.split()[-1]) for x in lines if x.startswith("vllm:num_requests_running{"))
        waiting = next(float(x.split()[-1]) for x in lines if x.startswith("vllm:num_requests_waiting{"))
        assert running <= 1
    for client in clients:
        client.join(30)
    server.stop()
    assert waiting >= 1


def test_a_client_that_leaves_frees_its_slot(ollama) -> None:
    server = ollama(num_parallel=1, token_s=0.02)
    leaver = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    endless = request(options={"num_predict": 100_000, "seed": 1})
    leaver.request("POST", "/api/chat", json.dumps(endless), {"content-type": "application/json"})
    leaver.getresponse().readline()
    leaver.close()
    status, _, body = server.post("/api/chat", request(stream=False, options={"num_predict": 2}))
    assert status == 200
    assert json.loads(body)["done"] is True


def test_only_pending_loads_can_be_too_many(ollama) -> None:
    server, marks = ollama(max_queue=0, load_s=0.5), []
    clients = [Client(server, i, marks) for i in range(4)]
    run_all(clients)
    assert sorted(c.status for c in clients) == [200, 503, 503, 503]
    warm = [Client(server, i, marks) for i in range(4)]
    run_all(warm)
    assert [c.status for c in warm] == [200] * 4
    # and the words of the refusal, for a model that is not in memory yet
    loader = Client(server, 9, marks, model="qwen3:0.6b")
    loader.start()
    answers = []
    while loader.is_alive() and not answers:
        status, _, body = server.post("/api/chat", request(model="nomic-embed-text:latest", messages=[]))
        status, _, body = server.post("/api/chat", request(model="qwen3:0.6b", stream=False))
        answers += [json.loads(body)["error"]] if status == 503 else []
    loader.join(30)
    assert not answers or answers == [BUSY]


def loaded(server) -> dict[str, dict]:
    return {m["name"]: m for m in json.loads(server.ask("GET", "/api/ps")[2])["models"]}


def test_load_unload_and_another_context(ollama) -> None:
    server = ollama()
    body = json.loads(server.post("/api/generate", {"model": "llama3.1:8b", "keep_alive": -1})[2])
    assert (body["done_reason"], body["response"]) == ("load", "")
    assert loaded(server)["llama3.1:8b"]["context_length"] == 4096
    server.post("/api/chat", request(stream=False, options={"num_ctx": 1024, "num_predict": 1}))
    assert loaded(server)["llama3.1:8b"]["context_length"] == 1024
    body = json.loads(server.post("/api/generate", {"model": "llama3.1:8b", "keep_alive": 0})[2])
    assert body["done_reason"] == "unload"
    assert loaded(server) == {}


def test_the_least_recent_model_makes_room(ollama) -> None:
    server = ollama(max_loaded=1)
    server.post("/api/generate", {"model": "llama3.1:8b"})
    server.post("/api/generate", {"model": "qwen3:0.6b"})
    assert list(loaded(server)) == ["qwen3:0.6b"]
