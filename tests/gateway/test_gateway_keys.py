"""Keys that callers send, through the real nginx."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gateway_bench import Bench, chat
from gateway_fakes import Seen
from gateway_harness import ROUTE
from gateway_surface import Doors, doors, raw

pytestmark = pytest.mark.docker

KEY, OTHER = "sk-migrate-one", "sk-migrate-two"
PATHS = ("/api/chat", "/v1/chat/completions", "/v1/messages", "/api/show", "/api/blobs/sha256:0", "/nope")


def line(key: str, name: str) -> str:
    return f"{hashlib.sha256(key.encode()).hexdigest()}  {name}\n"


@pytest.fixture(params=["enforce", "grace"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def own(bench: Bench, tmp_path: Path, mode: str) -> Iterator[Doors]:
    (tmp_path / "etc" / "keys").mkdir(parents=True)
    (tmp_path / "etc" / "keys" / "clients").write_text(line(KEY, "ci"))
    surface = {"keys": {"file": "/etc/gateway/keys/clients", "mode": mode}, "origins": ""}
    with doors(tmp_path, bench, 21500, surface) as one:
        yield one


enforced = pytest.mark.parametrize("mode", ["enforce"], indirect=True)


def everyone(bench: Bench) -> list[Seen]:
    return [seen for fake in bench.fakes for seen in fake.seen]


def until(ask, expected: int) -> None:
    """Wait until every worker says so."""
    deadline = time.monotonic() + 10
    while (found := {ask() for _ in range(20)}) != {expected}:
        assert time.monotonic() < deadline, f"{found} instead of {expected}"
        time.sleep(0.05)


def keys_file(own: Doors) -> Path:
    return own.etc / "keys" / "clients"


@enforced
def test_only_who_has_a_key_may_call(bench: Bench, own: Doors) -> None:
    own.weights({ROUTE: 100})
    wrong = [{}, {"Authorization": f"Bearer {OTHER}"}, {"Authorization": KEY}, {"X-Api-Key": "x"}]
    for path in PATHS:
        for headers in wrong:
            answer = httpx.post(own.public + path, json=chat(), headers=headers)
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer"), (path, headers)
    assert httpx.get(f"{own.public}/api/tags").status_code == 401
    assert httpx.get(f"{own.openai}/v1/models").status_code == 401
    assert own.chat(own.openai).status_code == 401
    assert not everyone(bench)
    for headers in ({"Authorization": f"Bearer {KEY}"}, {"authorization": f"bearer {KEY}"}, {"X-Api-Key": KEY}):
        for path in PATHS:
            assert httpx.post(own.public + path, json=chat(), headers=headers).status_code == 200
        assert own.chat(own.openai, headers=headers).status_code == 200
        assert httpx.get(f"{own.openai}/v1/models", headers=headers).status_code == 200
    for seen in everyone(bench):
        assert "Authorization" not in seen.headers
        assert "x-api-key" not in {name.lower() for name in seen.headers}


@enforced
def test_each_protocol_has_its_own_words_for_it(own: Doors) -> None:
    native = httpx.post(f"{own.public}/api/chat", json=chat()).json()
    assert "a key is needed" in native["error"]
    openai = httpx.post(f"{own.public}/v1/chat/completions", json=chat(), headers={"Authorization": "Bearer x"}).json()
    assert openai["error"] | {"message": ""} == {
        "message": "", "type": "invalid_request_error", "param": None, "code": "invalid_api_key",
    }  # fmt: skip
    anthropic = httpx.post(f"{own.public}/v1/messages", json=chat(), headers={"X-Api-Key": "x"}).json()
    assert (anthropic["type"], anthropic["error"]["type"]) == ("error", "authentication_error")


@enforced
def test_what_needs_no_key(bench: Bench, own: Doors) -> None:
    page = {"Origin": "http://localhost:1", "Access-Control-Request-Method": "POST"}
    assert httpx.options(f"{own.public}/v1/chat/completions", headers=page).json()["from"] == "ollama"
    assert httpx.get(own.public).json()["from"] == "ollama"
    assert httpx.head(own.public).status_code == 200
    assert httpx.get(f"{own.public}/_migrate/id").status_code == 200
    assert own.ask("GET", "/side/ollama/api/tags").json()["from"] == "ollama"


@enforced
def test_the_file_is_read_while_it_runs(own: Doors) -> None:
    def ask(key: str) -> int:
        return httpx.get(f"{own.public}/api/tags", headers={"Authorization": f"Bearer {key}"}).status_code

    assert (ask(KEY), ask(OTHER)) == (200, 401)
    replacement = keys_file(own).with_name("new")
    replacement.write_text("# rotated\nnonsense\n" + line(OTHER, "two"))
    replacement.replace(keys_file(own))
    until(lambda: ask(OTHER), 200)
    until(lambda: ask(KEY), 401)
    keys_file(own).unlink()
    until(lambda: ask(OTHER), 401)  # nobody, not everybody
    keys_file(own).write_text("mode grace\n")
    until(lambda: ask("x"), 200)
    assert own.status()["keys"] == {"mode": "grace", "known": 0, "callers": {"127.0.0.1": own.status()["keys"]["callers"]["127.0.0.1"]}}
    assert "no hash and name in line 2" in own.logs()


@pytest.mark.parametrize("mode", ["grace"], indirect=True)
def test_in_the_time_of_grace_callers_without_a_key_are_counted(bench: Bench, own: Doors) -> None:
    own.weights({ROUTE: 100})
    for _ in range(3):
        assert own.chat().status_code == 200
    assert own.chat(headers={"Authorization": "Bearer wrong"}).status_code == 200
    assert own.chat(headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
    assert own.status()["keys"] == {"mode": "grace", "known": 1, "callers": {"127.0.0.1": 4}}
    assert all("Authorization" not in seen.headers for seen in bench.engine.seen)
    text = (own.state / "access.jsonl").read_text() + own.logs()
    assert KEY not in text
    assert "wrong" not in text


@enforced
def test_odd_headers(own: Doors) -> None:
    def ask(*headers: bytes) -> bytes:
        head = b"GET /api/tags HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + b"".join(one + b"\r\n" for one in headers)
        return raw(own.ports.public, head + b"\r\n").split(b"\r\n")[0]

    good = b"Authorization: Bearer " + KEY.encode()
    assert b"200" in ask(good)
    for headers in (
        (b"Authorization: Bearer " + b"\xff" * 100,), (b"Authorization: Bearer " + b"x" * 20000,),
        (b"Authorization: Bearer",), (b"X-Api-Key:",), (b"Authorization : Bearer " + KEY.encode(),),
        (b"Authorization: Bearer\t",), (b"Authorization: Bearer x", good), (b"Proxy-Authorization: Bearer " + KEY.encode(),),
    ):  # fmt: skip
        assert b"401" in ask(*headers) or b"400" in ask(*headers), headers
