"""Whatever is sent to the control door: it answers, changes nothing by mistake, and still works afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from gateway_bench import Bench
from gateway_harness import ROUTE, TOKEN, Nginx
from gateway_surface import raw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.docker

POSTS = ("/control/weights", "/control/lease", "/control/hold", "/control/replica")
KEYS = ("weights", "version", "by", "owner", "seconds", "fallback", "on", "route", "most", "replica")
numbers = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0, -0.0, 1e308, -1, 0.1, 99.95, 2**53])
)
names = st.one_of(st.text(max_size=20), st.sampled_from([ROUTE, "one", "two-2", "nomic-embed-text:latest", "nan", "inf", "0x10"]))
scalars = st.one_of(st.none(), st.booleans(), numbers, names)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8)
bodies = st.one_of(st.dictionaries(st.sampled_from(KEYS), values, max_size=6), values)
fuzz = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=10, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        yield client


def ask(nginx: Nginx, client: httpx.Client, path: str, body: bytes, method: str = "POST") -> httpx.Response:
    return client.request(method, nginx.control + path, content=body)


def still_works(nginx: Nginx, client: httpx.Client, before: dict[str, Any] | None = None) -> None:
    client.post(f"{nginx.control}/control/hold", json={"on": False}).raise_for_status()
    client.post(f"{nginx.control}/control/lease", json={"owner": "t", "seconds": 0}).raise_for_status()
    found = client.get(f"{nginx.control}/control/status")
    assert found.status_code == 200
    after = found.json()
    assert all(0 <= weight <= 100 for weight in after["weights"].values())
    if before:
        assert (after["weights"], after["version"]) == (before["weights"], before["version"])


@pytest.mark.parametrize("path", POSTS)
@fuzz
@given(body=bodies)
def test_any_json(bench: Bench, client: httpx.Client, path: str, body: Any) -> None:
    answer = ask(bench.nginx, client, path, json.dumps(body).encode())
    assert answer.status_code in {200, 400, 409}, answer.text
    assert answer.status_code == 200 or answer.json()["error"]
    still_works(bench.nginx, client)


@pytest.mark.parametrize("path", POSTS)
@fuzz
@given(body=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
def test_any_bytes(bench: Bench, client: httpx.Client, path: str, body: bytes) -> None:
    before = bench.nginx.status()
    answer = ask(bench.nginx, client, path, body)
    assert answer.status_code == 400
    still_works(bench.nginx, client, before)


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000, b'{"a":' * 5000, b'{"seconds":1e999,"owner":"x","on":true,"replica":"one","weights":{"llama3.1:8b":1e999}}',
        b'{"seconds":"nan","owner":"x","on":true,"replica":"one"}', b'{"seconds":-1e999,"owner":"x","on":true,"replica":"one"}',
        b'{"weights":{"llama3.1:8b":-0.0},"version":1e999}', b'{"owner":"x","seconds":1,"fallback":"text"}',
        b'{"owner":"x","seconds":1,"fallback":[1]}', b'{"owner":"x","seconds":1,"fallback":7}', b"\x00", b"\xef\xbb\xbf{}",
        b'{"by":{"a":1},"weights":{"llama3.1:8b":1}}', b'{"seconds":NaN}', b'{"on":true,"seconds":[1]}',
    ],
)  # fmt: skip
def test_what_once_was_taken_for_a_number(bench: Bench, client: httpx.Client, path: str, body: bytes) -> None:
    before = bench.nginx.status()
    answer = ask(bench.nginx, client, path, body)
    assert answer.status_code in {400, 409} or (path.endswith("hold") and b"fallback" in body)  # none of its business
    still_works(bench.nginx, client, before)


def test_bytes_that_are_no_text_are_not_given_back(bench: Bench, client: httpx.Client) -> None:
    version = bench.nginx.status()["version"]
    body = b'{"by":"a\xff\x01b","version":%d,"weights":{"llama3.1:8b":0}}' % version
    assert ask(bench.nginx, client, "/control/weights", body).status_code == 200
    assert client.get(f"{bench.nginx.control}/control/status").json()["by"] == "a??b"
    ask(bench.nginx, client, "/control/lease", b'{"owner":"\xff%b","seconds":5}' % (b"x" * 5000))
    assert len(client.get(f"{bench.nginx.control}/control/status").json()["lease"]["owner"]) == 200


def test_a_huge_body(bench: Bench, client: httpx.Client) -> None:
    for size, code in ((20_000_000, 400), (70_000_000, 413)):
        assert ask(bench.nginx, client, "/control/weights", b" " * size).status_code == code
    still_works(bench.nginx, client)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "FOO"])
def test_wrong_methods(bench: Bench, client: httpx.Client, method: str) -> None:
    before = bench.nginx.status()
    for path in (*POSTS, "/control/nope", "/", "/control/weights/", "/control//weights", "/CONTROL/weights"):
        assert ask(bench.nginx, client, path, b'{"weights":{"llama3.1:8b":1},"version":0}', method).status_code == 404
    still_works(bench.nginx, client, before)


@pytest.mark.parametrize("offset", ["nan", "-1", "inf", "1e999", "0x10", "", "9" * 40, "%00", "1.5", "2&from=x"])
def test_odd_offsets_into_the_log(bench: Bench, client: httpx.Client, offset: str) -> None:
    bench.chat()
    bench.nginx.record()
    answer = client.get(f"{bench.nginx.control}/control/log?from={offset}")
    assert answer.status_code == 200
    assert answer.headers["X-Next"].isdigit()


def test_without_the_token_nothing_is_read(bench: Bench) -> None:
    head = b"POST /control/weights HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100\r\n"
    for value in (b"", b"Bearer", b"Bearer \xff", b"Basic " + TOKEN.encode(), TOKEN.encode(), b"Bearer " + TOKEN.encode() + b" x"):
        answer = raw(bench.nginx.ports.control, head + b"Authorization: " + value + b"\r\n\r\n" + b"{", wait=2)
        assert b" 401 " in answer.split(b"\r\n")[0], value
