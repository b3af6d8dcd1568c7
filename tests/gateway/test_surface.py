"""What the doors let in, through the real nginx: vLLM's port, the store, origins and hosts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gateway_bench import Bench, chat
from gateway_fakes import status
from gateway_harness import ROUTE
from gateway_surface import HF, Doors, doors, raw

pytestmark = pytest.mark.docker

RECORDED = json.loads((Path(__file__).parents[1] / "conformance" / "recordings" / "ollama" / "cors-preflight.json").read_text())
PAGE = {"Origin": "http://localhost:3000"}
STRANGER = {"Origin": "http://evil.example"}


@pytest.fixture(scope="module")
def shared(shared_bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    with doors(tmp_path_factory.mktemp("doors"), shared_bench, 21400, {"origins": "https://app.example"}) as one:
        yield one


@pytest.fixture
def open_doors(bench: Bench, shared: Doors) -> Doors:
    """A gateway with vLLM's port too, every weight 0."""
    shared.weights({ROUTE: 0}, None)
    shared.forget_records()
    return shared


# --- vLLM's port ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [HF, HF.lower(), ROUTE, "library/llama3.1:8b"])
@pytest.mark.parametrize(("weight", "side"), [(0, "ollama"), (100, "engine")])
def test_clients_of_vllms_port_are_routed_by_weight(bench: Bench, open_doors: Doors, name: str, weight: int, side: str) -> None:
    open_doors.weights({ROUTE: weight})
    assert open_doors.chat(open_doors.openai, model=name).json()["from"] == side
    assert json.loads(getattr(bench, side).seen[-1].body)["model"] == (ROUTE if side == "ollama" and name.lower() == HF.lower() else name)


def test_ollama_is_asked_under_its_own_name_when_vllm_fails(bench: Bench, open_doors: Doors) -> None:
    open_doors.weights({ROUTE: 100})
    bench.engine.behave = status(503)
    assert open_doors.chat(open_doors.openai, model=HF).json()["from"] == "ollama"
    seen = json.loads(bench.ollama.seen[-1].body)
    assert seen == chat(model=ROUTE)
    assert bench.ollama.seen[-1].headers["Content-Length"] == str(len(bench.ollama.seen[-1].body))


def test_a_large_body_with_an_id_is_renamed_in_its_last_model(bench: Bench, open_doors: Doors) -> None:
    text = 'say "model": ' * 800_000   # through a file
    body = json.dumps({"model": None, "messages": [{"role": "user", "content": text}], "MODEL": HF}).encode()
    answer = httpx.post(f"{open_doors.public}/v1/chat/completions", content=body, timeout=60)
    assert answer.json()["from"] == "ollama"
    assert bench.ollama.seen[-1].body == body.replace(json.dumps(HF).encode(), json.dumps(ROUTE).encode())


def test_the_list_of_vllms_port(bench: Bench, open_doors: Doors) -> None:
    listed = httpx.get(f"{open_doors.openai}/v1/models").json()
    assert listed["object"] == "list"
    assert listed["data"][0] | {"created": 0} == {
        "id": HF, "object": "model", "created": 0, "owned_by": "vllm", "root": HF, "max_model_len": 4096,
    }  # fmt: skip
    assert {ROUTE, HF, "nomic-embed-text:latest"} <= {one["id"] for one in listed["data"]}
    assert httpx.get(f"{open_doors.openai}/v1/models/{HF}").json()["id"] == HF
    assert httpx.get(f"{open_doors.openai}/v1/models/nope").status_code == 404
    assert httpx.get(f"{open_doors.openai}/health").status_code == 200
    assert not bench.ollama.seen
    assert httpx.get(f"{open_doors.public}/v1/models").json()["from"] == "ollama"


CLOSED = [
    "/", "/api/chat", "/api/tags", "/invocations", "/metrics", "/tokenize", "/detokenize", "/docs", "/openapi.json",
    "/sleep", "/wake_up", "/is_sleeping", "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/scale_elastic_ep",
    "/server_info", "/collective_rpc", "/reset_prefix_cache", "/ping", "/version", "/load", "/pooling", "/classify",
    "/score", "/rerank", "/inference/v1/generate", "/generative_scoring", "/start_profile", "/v1/audio/transcriptions",
]  # fmt: skip


def spellings(path: str) -> list[bytes]:
    encoded = "".join(f"%{ord(c):02X}" if c.isalpha() else c for c in path)
    return [
        text.encode()
        for text in (
            path, "/" + path, path + "/", path.upper(), encoded, f"/v1/..{path}", f"/v1/chat/completions/../../..{path}",
            f"{path}/../v1/chat/completions", f"/v1/chat/completions/..;{path}", f"/v1/%2e%2e{path}", f"{path}%2f..%2fv1%2fmodels",
            f"{path}?/v1/chat/completions", f"{path}#/v1/chat/completions", f"/v1/chat/completions%23/..{path}",
            f"http://127.0.0.1{path}", f"http://x{path}/../v1/chat/completions", f"{path}%00", f"/\\..{path}", f"/.{path}",
        )
    ]  # fmt: skip


@pytest.mark.parametrize("path", CLOSED)
@pytest.mark.parametrize("port", ["public", "openai"])
def test_vllms_other_paths_cannot_be_spelled(bench: Bench, open_doors: Doors, path: str, port: str) -> None:
    open_doors.weights({ROUTE: 100})
    number = open_doors.ports.public if port == "public" else open_doors.ports.base + 20
    body = json.dumps(chat()).encode()
    for method in (b"GET", b"POST"):
        for spelling in spellings(path):
            head = b"%b %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n" % (method, spelling)
            raw(number, head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    assert not {seen.path for seen in bench.engine.seen} - {"/v1/chat/completions"}
    if port == "openai":
        assert not bench.ollama.seen
    allowed = {"/api/chat", "/api/show", "/v1/completions"}
    assert not {seen.path.partition("?")[0] for seen in bench.adapter.seen} - allowed


def test_vllms_port_refuses_in_the_protocols_form(bench: Bench, open_doors: Doors) -> None:
    answer = httpx.post(f"{open_doors.openai}/v1/nope")
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")
    answer = httpx.get(f"{open_doors.openai}/v1/chat/completions")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert httpx.post(f"{open_doors.openai}/api/chat").json() == {"error": "Not Found"}
    assert not bench.ollama.seen


# --- requests to Ollama's store ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body", "touched"),
    [
        ("POST", "/api/pull", {"model": "LLAMA3.1:8b"}, "pull"),
        ("POST", "/api/create", {"name": ROUTE, "from": "x"}, "create"),
        ("POST", "/api/copy", {"source": "x", "destination": ROUTE}, "copy"),
        ("DELETE", "/api/delete", {"model": ROUTE}, "delete"),
        ("POST", "/api/copy", {"source": ROUTE, "destination": "x"}, None),
        ("POST", "/api/push", {"model": ROUTE}, None),
        ("POST", "/api/pull", {"model": "other"}, None),
        ("GET", "/api/pull", {"model": ROUTE}, None),
    ],
)
def test_the_store_stays_ollamas_and_changes_are_remembered(
    bench: Bench, tmp_path: Path, method: str, path: str, body: dict, touched: str | None
) -> None:
    with doors(tmp_path, bench, 21450) as own:
        answer = httpx.request(method, own.public + path, json=body)
        assert answer.json()["from"] == "ollama"
        assert json.loads(bench.ollama.seen[-1].body) == body
        own.record()
        found = own.status()["touched"]
        assert {name: said["by"] for name, said in found.items()} == ({ROUTE: touched} if touched else {})
        own.remove()
        own.start()
        assert own.status()["touched"] == found


def test_a_change_that_ollama_refused_is_none(bench: Bench, tmp_path: Path) -> None:
    bench.ollama.behave = status(404)
    with doors(tmp_path, bench, 21450) as own:
        httpx.request("DELETE", f"{own.public}/api/delete", json={"model": ROUTE})
        own.record()
        assert own.status()["touched"] == {}


def test_the_way_back_is_not_deleted_under_vllm(bench: Bench, open_doors: Doors) -> None:
    open_doors.weights({ROUTE: 0.1})
    answer = httpx.request("DELETE", f"{open_doors.public}/api/delete", json={"name": "library/LLAMA3.1:8B"})
    assert answer.status_code == 409
    assert f"migrate rollback {ROUTE}" in answer.json()["error"]
    assert httpx.request("DELETE", f"{open_doors.public}/api/delete", json={"model": "other"}).status_code == 200
    assert httpx.post(f"{open_doors.public}/api/pull", json={"model": ROUTE}).status_code == 200
    assert [seen.path for seen in bench.ollama.seen] == ["/api/delete", "/api/pull"]


def test_a_read_only_gateway(bench: Bench, tmp_path: Path) -> None:
    with doors(tmp_path, bench, 21450, {"read_only": True}) as own:
        for path in ("pull", "push", "create", "copy", "blobs/sha256:00", "./pull", "%70ull", "x/../pull"):
            answer = httpx.post(f"{own.public}/api/{path}", content=b'{"model":"x"}')
            assert (answer.status_code, list(answer.json())) == (403, ["error"]), path
        assert httpx.request("DELETE", f"{own.public}/api/delete", json={"model": "x"}).status_code == 403
        assert not bench.ollama.seen
        for path in ("show", "chat", "embed"):
            assert httpx.post(f"{own.public}/api/{path}", json={"model": "x"}).json()["from"] == "ollama"
        assert httpx.head(f"{own.public}/api/blobs/sha256:00").status_code == 200
        assert httpx.get(f"{own.public}/api/tags").status_code == 200


# --- origins and hosts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
def test_a_page_may_read_vllms_answer_as_it_read_ollamas(bench: Bench, open_doors: Doors, path: str) -> None:
    open_doors.weights({ROUTE: 100})
    for origin in ("http://localhost:3000", "https://app.example"):
        answer = httpx.post(open_doors.public + path, json=chat(), headers={"Origin": origin})
        assert answer.json()["from"] in ("engine", "adapter")
        assert answer.headers.get_list("Access-Control-Allow-Origin") == [origin]
        assert answer.headers["Vary"] == "Origin"
    for fake in (bench.engine, bench.adapter):
        assert all("Origin" not in seen.headers for seen in fake.seen)
    same = httpx.post(open_doors.public + path, json=chat(), headers={"Origin": open_doors.public})
    assert "Access-Control-Allow-Origin" not in same.headers


def test_a_strange_page_is_refused_on_vllms_side_too(bench: Bench, open_doors: Doors) -> None:
    open_doors.weights({ROUTE: 100})
    answer = open_doors.chat(headers=STRANGER)
    assert (answer.status_code, answer.content) == (403, b"")
    assert "Content-Type" not in answer.headers
    assert not bench.engine.seen


def test_what_is_loaded_is_told_to_pages_as_all_else(bench: Bench, open_doors: Doors) -> None:
    url = f"{open_doors.public}/api/ps"
    answer = httpx.get(url, headers=PAGE)
    assert (answer.json()["from"], answer.headers["Access-Control-Allow-Origin"]) == ("adapter", PAGE["Origin"])
    assert httpx.get(url, headers=STRANGER).status_code == 403
    for method in ("OPTIONS", "POST", "HEAD"):
        assert httpx.request(method, url, headers=PAGE).headers.get("Access-Control-Allow-Origin") is None
        assert (bench.ollama.seen[-1].method, bench.ollama.seen[-1].headers["Origin"]) == (method, PAGE["Origin"])
    bench.adapter.stop()
    answer = httpx.get(url, headers=PAGE)
    assert (answer.json()["from"], "Access-Control-Allow-Origin" in answer.headers) == ("ollama", False)
    assert bench.ollama.seen[-1].headers["Origin"] == PAGE["Origin"]


def test_ollama_says_it_itself_when_it_answers(bench: Bench, open_doors: Doors) -> None:
    open_doors.chat(headers=STRANGER)
    assert bench.ollama.seen[-1].headers["Origin"] == STRANGER["Origin"]
    open_doors.weights({ROUTE: 100})
    bench.engine.behave = status(503)
    answer = open_doors.chat(headers=PAGE)
    assert answer.json()["from"] == "ollama"
    assert bench.ollama.seen[-1].headers["Origin"] == PAGE["Origin"]
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "Vary" not in answer.headers


def test_a_preflight_is_ollamas_and_without_it_the_same(bench: Bench, open_doors: Doors) -> None:
    open_doors.weights({ROUTE: 100})
    request = RECORDED["request"]
    ask = lambda: httpx.options(open_doors.public + request["path"], headers=request["headers"])  # noqa: E731
    assert ask().json()["from"] == "ollama"
    bench.ollama.stop()
    answer = ask()
    assert (answer.status_code, answer.content) == (RECORDED["status"], b"")
    found = {name: value for name, value in answer.headers.items() if name not in ("date", "server", "connection")}
    assert found == {name: value for name, value in RECORDED["headers"].items() if name != "date"}
    assert httpx.options(f"{open_doors.public}/api/chat", headers=STRANGER).status_code == 403
    listed = httpx.get(f"{open_doors.public}/api/tags", headers=PAGE)
    assert listed.headers["Access-Control-Allow-Origin"] == PAGE["Origin"]
    assert httpx.get(f"{open_doors.public}/api/tags", headers=STRANGER).status_code == 403


def test_all_origins(bench: Bench, tmp_path: Path) -> None:
    with doors(tmp_path, bench, 21450, {"origins": "*"}) as own:
        own.weights({ROUTE: 100})
        answer = own.chat(headers=STRANGER)
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Vary" not in answer.headers


def test_hosts_as_of_an_ollama_on_loopback(bench: Bench, tmp_path: Path) -> None:
    with doors(tmp_path, bench, 21450, {"hosts": True}) as own:
        for weight in (0, 100):
            own.weights({ROUTE: weight})
            assert own.chat(headers={"Host": "localhost:1"}).status_code == 200
            answer = own.chat(headers={"Host": "evil.example"})
            assert (answer.status_code, answer.content, "Content-Type" in answer.headers) == (403, b"", False)
        assert httpx.get(f"{own.public}/api/tags", headers={"Host": "evil.example"}).status_code == 403
        assert httpx.post(f"{own.public}/api/blobs/x", headers={"Host": "evil.example"}).status_code == 403
        assert httpx.options(f"{own.public}/api/chat").status_code == 204
        assert httpx.get(f"{own.public}/api/tags", headers=STRANGER).status_code == 403
        seen = len(bench.ollama.seen)
        assert httpx.options(f"{own.public}/api/chat", headers={"Host": "evil.example", **PAGE}).json()["from"] == "ollama"
        assert len(bench.ollama.seen) == seen + 1
        assert raw(own.ports.public, b"GET /api/tags HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200")
