"""What the shadow side-car keeps, and what the stack file says about it."""

from __future__ import annotations

import asyncio
import json
import stat

import aiohttp
import pytest
import yaml
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import render
from orchestrator.adapter import shadow
from orchestrator.adapter.ring import Ring, compared, words
from orchestrator.adapter.watched import Watched
from orchestrator.errors import UsageError
from orchestrator.plan.edits import changes, engine_digest, evidence_digest
from orchestrator.spec import parse_spec
from orchestrator.state import EngineState, RouteState, StackState, States

BASE = """
name: demo
accelerator: cpu
engines: {one: {repo: org/repo}}
routes: {"m": {engine: one}, "n": {engine: one}, "stays": {}}
"""


def spec(**of_m):
    data = yaml.safe_load(BASE)
    data["routes"]["m"] |= of_m
    return parse_spec(yaml.safe_dump(data))


# --- the stack --------------------------------------------------------------------------------------------


def test_off_by_default_there_is_no_trace_of_it() -> None:
    files = render.render(spec())
    assert "shadow/config.json" not in files
    assert "shadow" not in yaml.safe_load(files["compose.yaml"])["services"]
    assert "shadow" not in files["gateway/config.json"]


def test_one_route_with_a_share_brings_the_side_car() -> None:
    asked = spec(shadow={"percent": 2.5, "keep": 30})
    files = render.render(asked)
    config = json.loads(files["gateway/config.json"])
    assert {name: route.get("shadow") for name, route in config["routes"].items()} == {"m:latest": 2.5, "n:latest": None}
    assert config["shadow"].endswith(":8090")
    assert json.loads(files["shadow/config.json"])["keep"] == {"m:latest": 30}
    compose = yaml.safe_load(files["compose.yaml"])
    service = compose["services"]["shadow"]
    assert "ports" not in service
    assert f"./shadow/config.json:{shadow.DEFAULT}:ro" in service["volumes"]
    assert not shadow.DEFAULT.startswith("/etc/shadow/")     # a file of every Linux: nothing can be mounted below it
    assert "shadow" in compose["volumes"]
    assert "shadow" in render.services(asked)
    assert not [mount for name, other in compose["services"].items() if name != "shadow"
                for mount in other.get("volumes", []) if mount.startswith("shadow:")]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"shadow": {"percent": 0}}, "shadow/percent"),
        ({"shadow": {"percent": 101}}, "shadow/percent"),
        ({"shadow": {"percent": 1, "keep": 0}}, "shadow/keep"),
        ({"shadow": {"percent": 1, "kept": 5}}, "unknown key"),
        ({"shadow": 5}, "shadow"),
        ({"shadow": {"percent": 1}, "kind": "embedding"}, "shadow needs a route that generates"),
        ({"shadow": {"percent": 1}, "engine": None}, "shadow needs a route that generates"),
        ({"sticky": "maybe"}, "sticky"),
    ],
)
def test_what_is_wrong_is_said(wrong, said) -> None:
    with pytest.raises(UsageError) as caught:
        spec(**wrong)
    assert said in caught.value.evidence


def test_stickiness_is_the_default_and_each_route_may_differ() -> None:
    def sticky(one) -> dict[str, bool]:
        return {name: route["sticky"] for name, route in json.loads(render.render(one)["gateway/config.json"])["routes"].items()}

    off = parse_spec(BASE.replace("engines:", "gateway: {sticky: false}\nengines:", 1))
    assert sticky(spec()) == {"m:latest": True, "n:latest": True}
    assert sticky(spec(sticky=False)) == {"m:latest": False, "n:latest": True}
    assert set(sticky(off).values()) == {False}


@pytest.mark.parametrize("edit", [{"shadow": {"percent": 5}}, {"sticky": False}])
def test_such_an_edit_touches_no_engine_and_no_evidence(edit) -> None:
    old, new = spec(), spec(**edit)
    taken = States(
        stack=StackState.TAKEN_OVER, engines={"one": EngineState.READY}, routes={"m": RouteState.CUT_OVER}, since={}
    )
    found = changes(old, new, taken)
    assert [(one.service, one.how, one.live) for one in found] == [("gateway", "in place", False)]
    assert engine_digest(old, "one") == engine_digest(new, "one")
    assert evidence_digest(old, "parity", "m") == evidence_digest(new, "parity", "m")


# --- the side-car -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"choices": [{"message": {"role": "assistant", "content": "a b"}}]}, "a b"),
        ({"choices": [{"text": "a b"}]}, "a b"),
        ({"message": {"content": "a b"}, "done": True}, "a b"),
        ({"response": "a b", "done": True}, "a b"),
        ({"type": "message", "content": [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]}, "a b"),
        ({"output": [{"type": "message", "content": [{"type": "output_text", "text": "a b"}]}]}, "a b"),
        ({"error": "no"}, None),
        ([1], None),
        ({"choices": 3, "message": 4, "content": {"text": "x"}}, None),
    ],
)
def test_the_text_of_an_answer_is_found_in_every_api(body, text) -> None:
    assert words(json.dumps(body).encode()) == text


@pytest.mark.parametrize(
    "stream",
    [
        'data: {"choices":[{"delta":{"content":"a "}}]}\n\ndata: {"choices":[{"delta":{"content":"b"}}]}\n\ndata: [DONE]\n\n',
        '{"message":{"content":"a "},"done":false}\n{"message":{"content":"b"},"done":true}\n',
        '{"response":"a ","done":false}\n{"response":"b","done":true}\n',
        'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"a b"}}\n\n',
        'event: x\ndata: {"type":"response.output_text.delta","delta":"a b"}\n\n',
    ],
)
def test_and_of_every_stream(stream) -> None:
    assert words(stream.encode()) == "a b"


@given(st.binary(max_size=200))
def test_no_answer_is_too_odd(body) -> None:
    found = compared({}, body, body, {"status": 200, "body": body})
    assert json.dumps(found)
    assert found["likeness"] in (None, 1.0)


def test_the_ring_keeps_the_newest_of_each_route_and_nobody_else_may_read(tmp_path) -> None:
    ring = Ring(tmp_path / "kept", {"a": 2, "b": 5})
    for n in range(4):
        for route in ("a", "b"):
            ring.put(route, compared({"route": route, "uri": "/api/chat"}, b"%d" % n, b"", {"status": 0, "body": b""}))
    kept = [json.loads(path.read_text()) for path in sorted((tmp_path / "kept").glob("*/*.json"))]
    assert sorted((one["route"], one["request"]) for one in kept) == [
        ("a", "2"), ("a", "3"), ("b", "0"), ("b", "1"), ("b", "2"), ("b", "3"),
    ]  # fmt: skip
    for path in (tmp_path / "kept").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    lines = list(ring.lines())
    assert len(lines) == 6
    assert ring.clear() == 6
    assert not list(ring.lines())


def test_a_route_never_fills_the_disk(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("orchestrator.adapter.ring.BYTES_MOST", 5000)
    ring = Ring(tmp_path, {"a": 100})
    for _ in range(20):
        ring.put("a", {"request": "x" * 1000})
    assert 3 <= len(list(tmp_path.glob("*/*.json"))) <= 5
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*")) <= 5000


def test_a_broken_file_hides_no_other(tmp_path) -> None:
    ring = Ring(tmp_path, {"a": 5})
    good = ring.put("a", {"route": "a", "uri": "/x"})
    (good.parent / "00000000000000000001.json").write_text("{")
    (good.parent / "00000000000000000002.json").write_text("[]")
    assert len(list(ring.lines())) == 1
    with pytest.raises(UsageError):
        ring.show("../../etc/passwd")


@pytest.mark.parametrize(
    "change", [{"keep": {"a": 0}}, {"keep": {"a": "x"}}, {"keep": 5}, {"per_minute": 0}, {"queue_most": "x"}, {"gateway": 5},
               {"token_file": "/nowhere"}]
)  # fmt: skip
def test_a_configuration_that_is_wrong_is_said(tmp_path, change, capsys) -> None:
    (tmp_path / "token").write_text("t")
    good = {"gateway": "http://g", "token_file": str(tmp_path / "token"), "folder": str(tmp_path / "kept"), "keep": {"a": 1}}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(good))
    assert shadow.main(["--config", str(path), "--list"]) == 0
    assert "nothing was compared yet" in capsys.readouterr().out
    path.write_text(json.dumps(good | change))
    assert shadow.main(["--config", str(path), "--list"]) == 1
    assert "shadow configuration" in capsys.readouterr().err


def test_it_follows_its_configuration(tmp_path) -> None:
    (tmp_path / "token").write_text("t")
    path = tmp_path / "config.json"
    data = {"gateway": "http://127.0.0.1:1", "token_file": str(tmp_path / "token"), "folder": str(tmp_path / "kept"),
            "keep": {"a": 1}, "per_minute": 60_000}  # fmt: skip
    path.write_text(json.dumps(data))

    async def run() -> list[int]:
        watched = Watched(path, shadow.load)
        async with aiohttp.ClientSession() as session:
            settings = watched.get()
            one = shadow.Shadow(settings, session, Ring(settings.folder, settings.keep), watched.check)
            async with TestClient(TestServer(shadow.application(one))) as client:
                headers = {"X-Shadow": json.dumps({"route": "b", "uri": "/api/chat"}), "X-Request-Length": "2"}
                before = await client.post("/shadow", data=b"{}x", headers=headers)
                path.write_text(json.dumps(data | {"keep": {"a": 1, "b": 1}}))
                after = await client.post("/shadow", data=b"{}x", headers=headers)
                path.write_text("{")     # broken: what was in force stays
                later = await client.post("/shadow", data=b"{}x", headers=headers)
                return [before.status, after.status, later.status]

    assert asyncio.run(run()) == [400, 202, 202]
