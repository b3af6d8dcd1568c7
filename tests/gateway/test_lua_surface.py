"""The rules of the surface that need no nginx: origins and hosts, keys, the store's requests, vLLM's list."""

from __future__ import annotations

import hashlib
import json

import pytest
from gateway_lua import LUA, module, table
from hypothesis import given
from hypothesis import strategies as st

origins, keys, store, models, names, body = (
    module(n) for n in ("origins", "keys", "store", "models", "names", "body")
)


def allowed(origin: str, said: str = "") -> bool:
    return origins[b"allowed"](origins[b"new"](said.encode()), origin.encode())


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost", "https://localhost:8443", "http://localhost:3000", "http://127.0.0.1:1", "https://0.0.0.0",
        "app://x", "file://", "tauri://localhost", "vscode-webview://abc", "vscode-file://vscode-app",
    ],
)  # fmt: skip
def test_what_ollama_always_allows(origin: str) -> None:
    assert allowed(origin)


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "http://localhost.evil.example", "https://127.0.0.1.evil", "null", "http://local", "ftp://localhost",
     "chrome-extension://abc"],
)  # fmt: skip
def test_what_it_does_not(origin: str) -> None:
    assert not allowed(origin)


@pytest.mark.parametrize(
    ("said", "origin", "may"),
    [
        ("*", "http://evil.example", True),
        ("chrome-extension://*", "chrome-extension://abc", True),
        ("https://a.example,https://b.example", "https://b.example", True),
        ("https://a.example, https://b.example", "https://b.example", True),
        ("https://A.example", "https://a.example", True),
        ("https://*.example", "https://a.b.example", True),
        ("https://*.example", "https://a.example.evil", False),
        ('"https://a.example"', "https://a.example", True),
        ("'*'", "http://anything", True),
        ("https://a.example", "https://a.example.evil", False),
        ("https://a.example", "http://localhost:3000", True),
        ("  ", "http://evil.example", False),
        (",,", "http://evil.example", False),
    ],
)
def test_more_is_allowed_as_the_original_was_told(said: str, origin: str, may: bool) -> None:
    assert allowed(origin, said) is may


@pytest.mark.parametrize(
    ("host", "may"),
    [
        ("", True), ("localhost", True), ("LOCALHOST:11434", True), ("127.0.0.1:11434", True), ("127.8.9.1", True),
        ("[::1]:11434", True), ("::1", True), ("[::1]", False), ("10.1.2.3", True), ("172.16.0.1:1", True),
        ("172.32.0.1", False), ("192.168.1.1:11434", True), ("8.8.8.8", False), ("0.0.0.0:11434", True),
        ("evil.example", False), ("localhost.evil.example", False), ("a.localhost", True), ("nas.local:1", True),
        ("host.docker.internal", True), ("internal", False), ("127.0.0.1.evil", False), ("127.0.0.256", False),
        ("010.1.2.3", False), ("[fd00::1]:1", True), ("[2001:db8::1]:1", False), ("a:b:c", False),
    ],
)  # fmt: skip
def test_hosts_of_an_ollama_on_loopback(host: str, may: bool) -> None:
    assert origins[b"host_allowed"](host.encode()) is may


def parsed(text: str | bytes) -> tuple[dict[str, str], list[int]]:
    entries, wrong, _ = keys[b"parse"](text if isinstance(text, bytes) else text.encode())
    return {one[b"name"].decode(): one[b"hash"].decode() for one in entries.values()}, list(wrong.values())


A, B = (hashlib.sha256(key).hexdigest() for key in (b"a", b"b"))


def test_the_file_of_hashes() -> None:
    text = f"\ufeff# who\n{A}  ci\r\n\n  {B.upper()} *the team\nsha256:{A} again\nplain-key bad\n{A}\n{A[:-1]} short\n"
    assert parsed(text) == ({"ci": A, "the team": B, "again": A}, [6, 7, 8])
    assert parsed("") == ({}, [])


@pytest.mark.parametrize(
    ("text", "mode"),
    [("mode grace", b"grace"), (" mode: enforce \r\n", b"enforce"), ("mode grace\nmode enforce", b"enforce"), ("", None),
     ("mode", None), ("mode open", None), ("# mode grace", None)],
)  # fmt: skip
def test_the_mode_may_stand_in_the_file(text: str, mode: bytes | None) -> None:
    entries, wrong, found = keys[b"parse"](text.encode())
    assert (found, len(entries)) == (mode, 0)
    assert bool(len(wrong)) is (text in ("mode", "mode open"))


@given(st.binary(max_size=200))
def test_any_file_is_read(text: bytes) -> None:
    entries, _, _ = keys[b"parse"](text)
    assert all(len(one[b"hash"]) == 64 for one in entries.values())


@given(st.text(alphabet="0123456789abcdef", min_size=64, max_size=64), st.integers(0, 63))
def test_only_the_whole_hash_is_found(hash_: str, at: int) -> None:
    entries, _, _ = keys[b"parse"](f"{A} ci\n{hash_} mine\n".encode())
    assert keys[b"find"](entries, hash_.encode()) == b"mine"
    other = hash_[:at] + ("0" if hash_[at] != "0" else "1") + hash_[at + 1 :]
    assert keys[b"find"](entries, other.encode()) is None
    assert keys[b"find"](entries, hash_[:at].encode()) is None


@pytest.mark.parametrize(
    ("authorization", "api_key", "expected"),
    [
        (None, None, None), ("Bearer k1", None, "k1"), ("bearer   k1 ", None, "k1"), ("BEARER k1", "k2", "k1"),
        (None, "k2", "k2"), ("Basic abc", "k2", "k2"), ("Bearer ", None, None), ("k1", None, None), ("", "", None),
    ],
)  # fmt: skip
def test_where_a_key_stands(authorization: str | None, api_key: str | None, expected: str | None) -> None:
    found = keys[b"given"](*(None if one is None else one.encode() for one in (authorization, api_key)))
    assert (found.decode() if found else None) == expected


@pytest.mark.parametrize(
    ("uri", "body", "expected"),
    [
        ("/api/pull", {"model": "a"}, "a"),
        ("/api/pull", {"name": "a"}, "a"),
        ("/api/pull", {"name": "b", "model": "a"}, "a"),
        ("/api/pull", {"name": "b", "model": ""}, "b"),
        ("/api/create", {"files": {"model": "no"}, "MODEL": "a", "from": "b"}, "a"),
        ("/api/copy", {"source": "a", "destination": "b"}, "b"),
        ("/api/copy", {"model": "a"}, None),
        ("/api/delete", {"model": None, "name": "a"}, "a"),
        ("/api/push", {"model": "a"}, None),
        ("/api/delete", {"model": 1}, None),
        ("/api/delete", {}, None),
        ("/api/delete", [], None),
    ],
)
def test_what_a_request_to_the_store_touches(uri: str, body: object, expected: str | None) -> None:
    found = store[b"target"](uri.encode(), json.dumps(body).encode())
    assert (found.decode() if found else None) == expected


@pytest.mark.parametrize(
    ("method", "uri", "changes"),
    [
        ("POST", "/api/pull", True), ("POST", "/api/push", True), ("POST", "/api/create", True),
        ("POST", "/api/copy", True), ("DELETE", "/api/delete", True), ("POST", "/api/blobs/sha256:a", True),
        ("HEAD", "/api/blobs/sha256:a", False), ("POST", "/api/delete", False), ("POST", "/api/show", False),
        ("POST", "/api/chat", False), ("GET", "/api/tags", False), ("OPTIONS", "/api/pull", False),
        ("POST", "/api/signout", True), ("DELETE", "/api/user/keys/x", True),
    ],
)  # fmt: skip
def test_what_changes_the_store(method: str, uri: str, changes: bool) -> None:
    assert store[b"changes"](method.encode(), uri.encode()) is changes


def test_vllms_list_begins_with_hugging_face_ids() -> None:
    routes = table({
        "a:latest": {"kind": "generate", "context": 2048, "root": "org/A"},
        "e:latest": {"kind": "embedding"},
    })  # fmt: skip
    routes[b"a:latest"][b"names"] = LUA.table(b"org/A")
    routes[b"e:latest"][b"names"] = LUA.table(b"org/E")
    found = list(models[b"list"](routes, 7).values())
    assert [one[b"id"].decode() for one in found] == ["org/A", "a:latest", "org/E", "e:latest"]
    assert (found[1][b"root"], found[1][b"max_model_len"], found[1][b"created"]) == (b"org/A", 2048, 7)
    assert models[b"find"](routes, b"e:latest", 7)[b"id"] == b"e:latest"
    assert models[b"find"](routes, b"x", 7) is None
