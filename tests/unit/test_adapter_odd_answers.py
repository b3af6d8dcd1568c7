"""Whatever an engine answers, and wherever it stops: Ollama's form, JSON that every client reads, no word of Python."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator
from typing import Any, Self

import httpx
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.adapter.app import Adapter
from orchestrator.adapter.both import Said, merged
from orchestrator.adapter.config import Config, Route
from orchestrator.adapter.heard import loads, parse
from orchestrator.adapter.quick import learn
from orchestrator.adapter.refusals import EngineFault
from orchestrator.adapter.sse import LARGEST, EventParser

Json = dict[str, Any]
PYTHON = ("Traceback", "Error:", "NoneType", "KeyError", "TypeError", "not subscriptable", "has no attribute", "list index")

ASKED: dict[str, list[Json]] = {
    "/api/chat": [{"messages": [{"role": "user", "content": "x"}], "logprobs": True, "top_logprobs": 1}],
    "/api/generate": [{"prompt": "x"}, {"prompt": "x", "raw": True, "logprobs": True}, {"prompt": "x", "context": [1, 2]},
                      {"prompt": "x", "_debug_render_only": True}],
    "/api/embed": [{"input": ["a", "b"]}, {"input": "a", "dimensions": 1}],
    "/api/embeddings": [{"prompt": "a"}],
    "/v1/chat/completions": [{"messages": [{"role": "user", "content": "x"}], "logprobs": True, "stream_options": {"include_usage": True}}],
    "/v1/completions": [{"prompt": "x", "stream_options": {"include_usage": True}}],
    "/v1/embeddings": [{"input": ["a", "b"]}, {"input": "a", "encoding_format": "base64"}],
    "/v1/responses": [{"input": "x"}],
    "/v1/messages": [{"messages": [{"role": "user", "content": "x"}], "max_tokens": 5}],
    "/v1/messages/count_tokens": [{"messages": [{"role": "user", "content": "x"}], "max_tokens": 5}],
}
CASES = [(path, at) for path, asked in ASKED.items() for at in range(len(asked))]
PLAIN = ("/api/embed", "/api/embeddings", "/v1/embeddings", "/v1/messages/count_tokens")

CHOICE = {"index": 0, "delta": {"role": "assistant", "content": "hi", "reasoning": "hm", "tool_calls": [
    {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]},
    "text": "hi", "logprobs": {"content": [{"token": "hi", "logprob": -0.5, "bytes": [104], "top_logprobs": [
        {"token": "hi", "logprob": -0.5, "bytes": [104]}]}], "tokens": ["hi"], "token_logprobs": [-0.5],
        "top_logprobs": [{"hi": -0.5}]},
    "token_ids": [5], "finish_reason": "stop"}  # fmt: skip
GOOD: Json = {
    "id": "1", "object": "x", "created": 1, "model": "served", "choices": [CHOICE], "prompt_token_ids": [1, 2],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    "data": [{"index": 0, "embedding": [3.0, 4.0]}, {"index": 1, "embedding": [1, 0]}],
    "tokens": [1, 2, 3], "count": 3, "max_model_len": 100, "prompt": "rendered",
}  # fmt: skip
WORD = {"choices": [{"index": 0, "delta": {"content": "w"}, "text": "w", "finish_reason": None}]}


def paths(value: Any, so_far: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield so_far
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from paths(one, (*so_far, key))


PLACES = [path for path in paths(GOOD) if path]
GONE = object()
leaves = (st.none() | st.booleans() | st.integers(-2, 5) | st.floats() | st.text(max_size=4)
          | st.sampled_from([10**400, -1, "\ud800", "\x00", [], {}, [None], [[]], {"": None}, "NaN", 1e308]))
junk = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=5)


@st.composite
def mutated(draw: st.DrawFn) -> Json:
    """A good answer in which some values are odd or gone."""
    value = copy.deepcopy(GOOD)
    for place in draw(st.lists(st.sampled_from(PLACES), max_size=3)):
        inner: Any = value
        try:
            for key in place[:-1]:
                inner = inner[key]
            odd = draw(junk | st.just(GONE))
            if odd is GONE:
                del inner[place[-1]]
            else:
                inner[place[-1]] = odd
        except (KeyError, IndexError, TypeError):
            continue        # it was changed away already
    return value


def raw(value: Any) -> bytes:
    return json.dumps(value).encode()


HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
FIXED = [b"", b" ", b"null", b"[]", b"{}", b'""', b"1", b"NaN", b'{"data": NaN}', HTML, b"\xff\xfe", b"[" * 100_000, b'{"a":' * 5000,
         raw({"error": None}), raw({"error": "gone"}), raw({"error": {}}), raw({"error": {"message": None, "code": 0}}),
         raw({"error": {"message": "m", "code": 999}}), raw({"error": {"message": "m", "code": True}}), raw({"detail": [1]}),
         b'{"data":[{"index":0,"embedding":[NaN,1]},{"index":1,"embedding":[Infinity,1]}],"count":1e999,"tokens":[1e999]}',
         raw({"data": [{"index": 0, "embedding": "AAAA"}]}), raw({"data": [{"embedding": [1.0]}]}),
         raw({"data": [{"index": 0, "embedding": []}]}), raw({"data": [{"index": 0, "embedding": [1.0]}] * 3})]
whole = st.sampled_from(FIXED) | mutated().map(raw) | junk.map(raw) | st.binary(max_size=30)
frames = (mutated().map(raw) | st.just(raw(WORD)) | st.sampled_from([raw(GOOD), *FIXED]) | junk.map(raw)
          | st.sampled_from([b'{"choices":[{"index":0,"delta":{"content":"\\x"},"text":"\\x","finish_reason":null}]}',
                             b'{"choices":[{"index":0,"delta":{"content":"a\nb"},"text":"a\nb","finish_reason":null}]}',
                             b'{"choices":[{"index":0,"delta":{"content":"\\ud800"},"text":"\\ud800","finish_reason":null}]}']))


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    events = draw(st.lists(frames, max_size=4))
    data = b"".join(b"data: " + event.replace(b"\n", b"\ndata: ") + b"\n\n" for event in events)
    return data + draw(st.sampled_from([b"data: [DONE]\n\n", b"data: [DONE]", b"", b"data: {", b"\n\n: x\n\n"]))


class Engine:
    """An engine that answers what it is told to, to everybody."""

    def __init__(self) -> None:
        self.body, self.kind, self.status, self.cut = b"", "application/json", 200, False
        self.hangs, self.asked, self.left = False, asyncio.Event(), asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.asked.set()
        if self.hangs:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.left.set()
                raise
        streamed = self.kind == "text/event-stream"
        answer = web.StreamResponse(status=self.status, headers={"content-type": self.kind})
        if self.cut:
            answer.content_length = len(self.body) + 10
        elif streamed:
            answer.enable_chunked_encoding()
        await answer.prepare(request)
        half = len(self.body) // 2
        for part in (self.body[:half], self.body[half:]):
            if part:
                await answer.write(part)
        if self.cut and request.transport:
            request.transport.close()
        return answer


class Scene:
    """An adapter before that engine, in one event loop for all examples of a test."""

    def __enter__(self) -> Self:
        self.loop = asyncio.new_event_loop()
        self.engine = Engine()
        self.loop.run_until_complete(self._open())
        return self

    async def _open(self) -> None:
        served = web.Application()
        served.router.add_route("*", "/{path:.*}", self.engine.answer)
        self.runner = web.AppRunner(served, access_log=None, handler_cancellation=True, shutdown_timeout=1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"
        says = Route("m:latest", "one", url, "served", context_length=100, capabilities=("completion", "tools", "thinking"))
        embeds = Route("e:latest", "two", url, "served", context_length=100, capabilities=("embedding",))
        adapter = Adapter(lambda: Config({one.name: one for one in (says, embeds)}, "0", "", {}))
        self.app = adapter.app()
        self.life = adapter._lifespan(self.app)
        await self.life.__aenter__()
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://a")

    def ask(self, path: str, body: Json) -> httpx.Response:
        return self.loop.run_until_complete(self.client.post(path, json={"model": "e" if "embed" in path else "m", **body}))

    def __exit__(self, *_: object) -> None:
        self.loop.run_until_complete(self._close())
        self.loop.close()

    async def _close(self) -> None:
        await self.client.aclose()
        await self.life.__aexit__(None, None, None)
        await self.runner.cleanup()


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Scene() as one:
        yield one


def strict(text: str) -> Any:
    def no(word: str) -> Any:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=no)


def is_error(path: str, value: Any) -> bool:
    """Whether it is an error in the form of the API of a path."""
    if not isinstance(value, dict) or value.get("error") is None:
        return False
    inner = value["error"] if not path.startswith("/v1/") else value["error"]["message"]
    assert isinstance(inner, str)
    assert inner
    if path.startswith("/v1/messages"):
        assert value["type"] == "error"
    return True


def objects(text: str, kind: str) -> list[Any]:
    """Every JSON value of an answer, whatever its framing."""
    if "x-ndjson" in kind:
        return [strict(line) for line in text.splitlines()]
    if "event-stream" in kind:
        lines = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
        return [strict(line) for line in lines if line != "[DONE]"]
    return [strict(text)]


def judge(path: str, got: httpx.Response, said: str) -> None:
    assert 200 <= got.status_code < 600, got.status_code
    assert got.status_code < 300 or got.status_code >= 400
    found = objects(got.text, got.headers["content-type"])
    assert found
    errors = [one for one in found if is_error(path, one)]
    if got.status_code >= 400:
        assert len(errors) == len(found) == 1, got.text
    else:
        assert len(errors) <= 1
        assert not errors or errors[0] is found[-1], "an error ends the answer"
        if "ndjson" in got.headers["content-type"]:
            assert bool(errors) != (found[-1].get("done") is True)
    for error in errors:
        for word in PYTHON:
            assert word not in json.dumps(error), error
    assert '"unexpected"' not in said, said      # the last net held, but nothing should fall that deep


@pytest.mark.parametrize(("path", "at"), CASES, ids=[f"{path}-{at}" for path, at in CASES])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=30)
@given(data=st.data())
def test_any_answer_of_the_engine_becomes_ollamas(path: str, at: int, scene: Scene, data: st.DataObject, capsys: Any) -> None:
    streams_ = path not in PLAIN and data.draw(st.booleans())
    engine = scene.engine
    engine.status = data.draw(st.sampled_from([200] * 8 + [204, 302, 400, 401, 404, 418, 500, 503]))
    engine.kind = data.draw(st.sampled_from(["text/event-stream"] * 4 + ["application/json", "text/html"]))
    engine.body = b"" if engine.status == 204 else data.draw(streams() if path not in PLAIN else whole)
    if data.draw(st.integers(0, 5)) == 0:
        engine.body = b"" if engine.status == 204 else data.draw(whole)
    engine.cut = bool(engine.body) and data.draw(st.integers(0, 9)) == 0
    got = scene.ask(path, ASKED[path][at] | {"stream": streams_})
    judge(path, got, capsys.readouterr().err)


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("body", FIXED, ids=range(len(FIXED)))
def test_each_odd_answer(path: str, body: bytes, scene: Scene, capsys: Any) -> None:
    scene.engine.status, scene.engine.kind, scene.engine.body, scene.engine.cut = 200, "application/json", body, False
    got = scene.ask(path, ASKED[path][0])
    assert got.status_code >= 400, got.text
    judge(path, got, capsys.readouterr().err)


def test_the_good_answer_is_one(scene: Scene, capsys: Any) -> None:
    for path in ASKED:
        scene.engine.status, scene.engine.cut = 200, False
        scene.engine.kind = "application/json" if path in PLAIN else "text/event-stream"
        scene.engine.body = raw(GOOD) if path in PLAIN else b"data: " + raw(GOOD) + b"\n\ndata: [DONE]\n\n"
        data = copy.deepcopy(GOOD)
        if path == "/api/embeddings":
            data["data"] = data["data"][:1]
            scene.engine.body = raw(data)
        for stream in (False, True):
            got = scene.ask(path, ASKED[path][0] | {"stream": stream})
            assert got.status_code == 200, got.text
            judge(path, got, capsys.readouterr().err)


def test_an_engine_that_sends_us_elsewhere_is_not_followed(scene: Scene) -> None:
    scene.engine.status, scene.engine.kind, scene.engine.body, scene.engine.cut = 302, "text/html", HTML, False
    assert scene.ask("/api/embed", {"input": "a"}).status_code == 500


@pytest.mark.parametrize(("path", "at"), CASES, ids=[f"{path}-{at}" for path, at in CASES])
def test_who_leaves_is_not_worked_for(path: str, at: int, scene: Scene) -> None:
    engine = scene.engine
    body = raw({"model": "e" if "embed" in path else "m", "stream": False, **ASKED[path][at]})

    async def leave() -> None:
        engine.hangs, engine.asked, engine.left = True, asyncio.Event(), asyncio.Event()
        given_ = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if given_:
                return given_.pop()
            await engine.asked.wait()
            return {"type": "http.disconnect"}

        async def send(_: Any) -> None:
            pass

        scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": [],
                 "http_version": "1.1", "scheme": "http", "server": ("a", 80), "client": None, "root_path": ""}
        try:
            async with asyncio.timeout(20):
                await scene.app(scope, receive, send)
                await engine.left.wait()
        finally:
            engine.hangs = False

    scene.loop.run_until_complete(leave())


@given(junk | mutated())
def test_every_event_is_a_piece_or_a_fault(value: Any) -> None:
    event = raw(value)
    try:
        piece = parse(event)
    except EngineFault:
        return
    json.dumps([piece.content, piece.thinking, piece.calls, piece.logprobs, piece.usage, piece.token_ids], allow_nan=False)
    learn(event, piece)


LISTED = {"models": [{"name": "m:latest", "model": "m:latest", "modified_at": "2026-01-01T00:00:00Z"}]}
entries = junk | st.fixed_dictionaries({"name": junk | st.just("M"), "modified_at": junk | st.just("2026-02-01T00:00:00Z")})
lists = st.lists(entries, max_size=3).map(lambda found: {"models": found, "more": 1})


@given(st.sampled_from([200] * 5 + [404, 500]), lists.map(raw) | whole | mutated().map(raw))
def test_any_list_of_ollama_is_passed_on_or_added_to(status: int, body: bytes) -> None:
    got = merged(Said(status, {"content-type": "application/json"}, body), LISTED, "models", "name")
    assert got.status_code == status
    if bytes(got.body) != body:
        models = json.loads(bytes(got.body))["models"]
        before = json.loads(body)["models"] or []
        assert len(models) == len(before) + 1
        assert LISTED["models"][0] in models


def test_nan_is_no_number() -> None:
    assert loads(b"[NaN, Infinity, -Infinity, 1]") == [None, None, None, 1]


def test_an_event_without_end_is_not_collected_for_ever() -> None:
    parser = EventParser()
    for _ in range(LARGEST // 2**20):
        parser.feed(b"x" * 2**20)
    with pytest.raises(ValueError, match="too large"):
        parser.feed(b"x")
