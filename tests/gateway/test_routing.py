"""What goes where, through the real nginx."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx
import pytest
from gateway_bench import Bench, chat
from gateway_fakes import Fake
from gateway_harness import EMBED, ROUTE, TEMPLATES, Nginx, Ports

pytestmark = pytest.mark.docker


@pytest.mark.parametrize("weight", [0, 10, 50, 100])
def test_the_weight_is_the_share_that_vllm_gets(bench: Bench, weight: float) -> None:
    assert bench.nginx.weights({ROUTE: weight}).status_code == 200
    total = 400
    with httpx.Client() as client:
        for n in range(total):
            body = chat(messages=[{"role": "user", "content": f"conversation {n}"}])
            client.post(f"{bench.nginx.public}/v1/chat/completions", json=body).raise_for_status()
    share = 100 * len(bench.engine.seen) / total
    assert len(bench.engine.seen) + len(bench.ollama.seen) == total
    assert share == weight if weight in (0, 100) else abs(share - weight) < 8


def test_a_weight_is_in_effect_for_the_next_request(bench: Bench) -> None:
    for round_ in range(20):
        weight = 100 if round_ % 2 == 0 else 0
        version = bench.nginx.weights({ROUTE: weight}).json()["version"]
        assert bench.chat().json()["from"] == ("engine" if weight else "ollama")
        assert bench.nginx.record(round_ + 1)["version"] == version


@pytest.mark.parametrize(
    "name",
    [
        "llama3.1:8b",
        "LLAMA3.1:8B",
        "library/llama3.1:8b",
        "registry.ollama.ai/library/llama3.1:8b",
        "meta-llama/Llama-3.1-8B-Instruct",
    ],
)
def test_every_spelling_of_a_name_is_the_route(bench: Bench, name: str) -> None:
    bench.nginx.weights({ROUTE: 100})
    assert bench.chat(model=name).json()["from"] == "engine"
    assert bench.nginx.record()["model"] == name


@pytest.mark.parametrize(
    ("path", "body", "side"),
    [
        ("/api/chat", {"model": ROUTE, "messages": []}, "adapter"),
        ("/api/generate", {"model": ROUTE, "prompt": "x"}, "adapter"),
        ("/v1/completions", {"model": ROUTE, "prompt": "x"}, "adapter"),
        ("/v1/messages", {"model": ROUTE, "messages": [], "max_tokens": 1}, "adapter"),
        ("/api/embed", {"model": ROUTE, "input": "x"}, "ollama"),
        ("/v1/embeddings", {"model": ROUTE, "input": "x"}, "ollama"),
        ("/v1/chat/completions", chat(temperature=2.5), "adapter"),
        ("/v1/chat/completions", chat(), "engine"),
        ("/v1/chat/completions", chat(model="other"), "ollama"),
        ("/v1/chat/completions", chat(model=""), "ollama"),
        ("/v1/chat/completions", {"messages": []}, "ollama"),
        ("/v1/chat/completions", b'{"model": "llama3.1:8b", ', "ollama"),
        ("/api/show", {"model": ROUTE}, "ollama"),
        ("/api/pull", {"model": ROUTE}, "ollama"),
        ("/api/create", {"model": ROUTE, "from": "x"}, "ollama"),
        ("/api/delete", {"model": ROUTE}, "ollama"),
    ],
)
def test_direct_adapter_or_ollama(bench: Bench, path: str, body: dict | bytes, side: str) -> None:
    bench.nginx.weights({ROUTE: 100})
    assert bench.post(path, body).json()["from"] == side
    seen = getattr(bench, side).seen[-1]
    assert seen.path == path
    assert seen.body == (body if isinstance(body, bytes) else httpx.Request("POST", "http://x", json=body).content)
    assert seen.headers.get("X-Migrate-Route") == (ROUTE if side == "adapter" else None)
    assert seen.headers.get("X-Migrate-Engine") == ("one" if side == "adapter" else None)
    via = bench.nginx.record()["via"]
    assert via == {"engine": "direct"}.get(side, side)


@pytest.mark.parametrize(
    ("body", "side"),
    [
        (r'{"m\u006fdel":"llama3.1:8b","messages":[]}', "adapter"),
        (r'{"MODEL":"llama3.1\u003a8b","messages":[]}', "adapter"),
        ('{"model":"other","model":"llama3.1:8b"}', "adapter"),
        ('{"model":"llama3.1:8b","model":"other"}', "ollama"),
        ('{"model":"llama3.1:8b","model":null}', "adapter"),
        ('{"model":null}', "ollama"),
        ('{"model":5}', "ollama"),
        ('{"tools":[{"function":{"parameters":{"properties":{"model":"llama3.1:8b"}}}}],"model":"other"}', "ollama"),
        (r'{"messages":[{"content":"\",\"model\":\"other\""}],"model":"llama3.1:8b"}', "adapter"),
        ('[{"model":"llama3.1:8b"}]', "ollama"),
        ('{"model":"https://registry.ollama.ai/library/llama3.1:8b"}', "adapter"),
        ('{"model":"registry.ollama.ai/llama3.1:8b"}', "ollama"),
        ('{"model":"hf.co/meta-llama/Llama-3.1-8B-Instruct"}', "ollama"),
        ("", "ollama"),
    ],
)  # fmt: skip
def test_what_counts_as_the_model(bench: Bench, body: str, side: str) -> None:
    bench.nginx.weights({ROUTE: 100})
    assert bench.post("/api/chat", body.encode()).json()["from"] == side


def test_a_body_of_exactly_64_mb(bench: Bench) -> None:
    bench.nginx.weights({ROUTE: 100})
    tail = b'","model":"llama3.1:8b"}'
    body = b'{"x":"' + b"y" * (64 * 1024 * 1024 - 6 - len(tail)) + tail
    assert bench.post("/api/chat", body).json() == {"from": "adapter", "bytes": 64 * 1024 * 1024}


def test_a_missing_content_type_is_the_adapters_business(bench: Bench) -> None:
    bench.nginx.weights({ROUTE: 100})
    assert bench.post("/v1/chat/completions", json.dumps(chat()).encode()).json()["from"] == "adapter"


def test_a_client_cannot_name_the_route_itself(bench: Bench) -> None:
    headers = {"X-Migrate-Route": "evil", "X-Migrate-Engine": "evil"}
    bench.post("/api/chat", {"model": "other"}, headers=headers)
    assert "X-Migrate-Route" not in bench.ollama.seen[-1].headers
    assert "X-Migrate-Engine" not in bench.ollama.seen[-1].headers


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS", "PUT"])
@pytest.mark.parametrize("path", ["/", "/api/tags", "/api//x/y%2Fz?a=b%20c", "/v1/models/llama3.1:8b"])
def test_all_else_reaches_ollama_untouched(bench: Bench, method: str, path: str) -> None:
    host, port = "127.0.0.1", bench.nginx.ports.public
    with httpx.Client() as client:
        request = client.build_request(method, f"http://{host}:{port}/", headers={"Host": "my.host:1"})
        request.url = request.url.copy_with(raw_path=path.encode())
        answer = client.send(request)
    assert answer.status_code == 200
    seen = bench.ollama.seen[-1]
    assert (seen.method, seen.path, seen.headers["Host"]) == (method, path, "my.host:1")
    assert bench.nginx.record()["outcome"] == "complete"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_20_mb_body_with_the_model_last(bench: Bench, chunked: bool) -> None:
    bench.nginx.weights({ROUTE: 100})
    content = 'say "model": \\ ' * (20_000_000 // 15)
    decoy = {"properties": {"model": {"type": "string"}}}
    body = json.dumps({"messages": [{"role": "user", "content": content}], "options": decoy, "model": ROUTE}).encode()

    def parts():
        for at in range(0, len(body), 100_001):
            yield body[at : at + 100_001]

    answer = httpx.post(f"{bench.nginx.public}/api/chat", content=parts() if chunked else body, timeout=60)
    assert answer.json() == {"from": "adapter", "bytes": len(body)}
    assert bench.adapter.seen[-1].body == body


def test_a_body_past_64_mb_is_refused_in_the_protocols_form(bench: Bench) -> None:
    answer = bench.post("/v1/chat/completions", b" " * (64 * 1024 * 1024 + 1))
    assert answer.status_code == 413
    assert "64 MB" in answer.json()["error"]["message"]


def test_blobs_of_any_size_are_passed_on_while_they_come(bench: Bench) -> None:
    size = 70 * 1024 * 1024
    answer = httpx.post(f"{bench.nginx.public}/api/blobs/sha256:ab", content=b"x" * size, timeout=60)
    assert answer.json()["bytes"] == size


def test_an_embedding_route_is_never_split(bench: Bench) -> None:
    assert bench.nginx.weights({EMBED: 50}).status_code == 400
    bench.nginx.weights({EMBED: 100})
    assert bench.post("/api/embed", {"model": "nomic-embed-text", "input": "x"}).json()["from"] == "adapter"


def test_a_fault_of_our_own_leaves_ollama_answering(bench: Bench, tmp_path: Path) -> None:
    lua = shutil.copytree(TEMPLATES / "lua", tmp_path / "lua")
    (lua / "choose.lua").write_text("return { side = function() error('a fault') end }")
    (lua / "outcome.lua").write_text("return { new = function() error('a fault') end }")
    faulty = Nginx(tmp_path, Ports(21300), lua=lua)
    ollama = Fake("ollama", 21302, bench.ollama.loop)
    ollama.start()
    try:
        faulty.start()
        for path in ("/v1/chat/completions", "/api/chat"):
            assert httpx.post(faulty.public + path, json=chat()).json()["from"] == "ollama"
        assert "a fault" in faulty.logs()
    finally:
        ollama.stop()
        faulty.remove()
