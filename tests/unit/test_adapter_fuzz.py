"""Whatever a client sends: a request to the engine that is JSON, or a refusal. Never anything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.adapter import anthropic, embed, gojson, native, responses, shapes, v1
from orchestrator.adapter.anthropic_answer import MessagesAnswer
from orchestrator.adapter.ask import Ask
from orchestrator.adapter.config import Config, Route, canonical, valid
from orchestrator.adapter.pieces import Call, Tally
from orchestrator.adapter.refusals import Refusal
from orchestrator.adapter.responses_answer import ResponsesAnswer

Json = dict[str, Any]
ROUTE = Route("m:latest", "one", "http://e", "served", context_length=100, system="S", capabilities=(
    "completion", "tools", "vision", "thinking"))  # fmt: skip
PLAIN = Route("m:latest", "one", "http://e", "served", capabilities=("completion",))
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6)
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3), max_leaves=8
)


def shaped(shape: Any) -> st.SearchStrategy[Any]:
    """Return values of a shape, and now and then anything."""
    if isinstance(shape, tuple):
        fitting: st.SearchStrategy[Any] = st.fixed_dictionaries({}, optional={k: shaped(v) for k, v in shape[1].items()})
    elif isinstance(shape, list):
        fitting = st.lists(shaped(shape[0]), max_size=3)
    else:
        fitting = {
            "string": st.text(max_size=6) | st.sampled_from(["user", "assistant", "tool", "system", "", "json"]),
            "bool": st.booleans(), "int": st.integers(), "float32": st.floats(allow_nan=False),
            "float64": st.floats(allow_nan=False), "api.ImageData": st.text(max_size=6),
            shapes.MAP: st.dictionaries(st.sampled_from(["temperature", "stop", "num_predict", "x"]), anything, max_size=3),
        }.get(shape, anything)  # fmt: skip
    return fitting | anything


EXTRA = {
    "api.ChatRequest": ("format", "keep_alive", "think"),
    "api.GenerateRequest": ("format", "keep_alive", "think"),
    "openai.ChatCompletionRequest": ("stop",),
    "openai.CompletionRequest": ("stop",),
    "openai.ResponsesRequest": ("input",),
    "anthropic.MessagesRequest": ("system", "tool_choice"),
}
BLOCKS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["text", "image", "tool_use", "tool_result", "thinking", "input_text", "image_url", "x"])},
        optional=dict.fromkeys(("text", "source", "id", "name", "input", "content", "image_url", "thinking"), anything),
    ),
    max_size=3,
)


def bodies(kind: str) -> st.SearchStrategy[Json]:
    fields = {name: shaped(shape) for name, shape in shapes.REQUESTS[kind].items()}
    fields |= {name: anything | BLOCKS | st.text(max_size=6) for name in EXTRA.get(kind, ())}
    if "messages" in fields:
        role = st.sampled_from(["user", "assistant", "tool", "system", "x"])
        content = st.text(max_size=6) | BLOCKS | anything
        one = st.fixed_dictionaries({"role": role, "content": content}, optional={"tool_calls": shaped([shapes._CALL])})
        fields["messages"] |= st.lists(one, min_size=1, max_size=3)
    return st.fixed_dictionaries({}, optional=fields).map(lambda body: {**body, "model": "m", "max_tokens": 5} | body)


MAKERS: dict[str, Callable[[Route, Json], Ask | str]] = {
    "api.ChatRequest": native.chat,
    "api.GenerateRequest": native.generate,
    "openai.ChatCompletionRequest": v1.chat,
    "openai.CompletionRequest": v1.completion,
    "openai.ResponsesRequest": responses.chat,
    "anthropic.MessagesRequest": lambda route, body: anthropic.chat(route, anthropic.checked(body)),
}


T = TypeVar("T")


def refused_or(make: Callable[[], T], statuses: set[int]) -> T | None:
    """Return what is made, None when it is refused with one of these statuses and a text."""
    try:
        return make()
    except Refusal as refusal:
        if refusal.status in statuses and refusal.message:
            return None
        raise


def wrong_with(raw: bytes) -> str | None:
    try:
        gojson.loads(raw)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("kind", MAKERS)
@given(st.data(), st.sampled_from([ROUTE, PLAIN]))
def test_every_body_is_translated_or_refused(kind: str, data: st.DataObject, route: Route) -> None:
    body = data.draw(bodies(kind))

    def translated() -> Ask | str:
        shapes.check(kind, body)
        return MAKERS[kind](route, {**body, "model": body.get("model") or "m"})

    made = refused_or(translated, {400, 500})
    if isinstance(made, Ask):
        json.dumps(made.body, allow_nan=False).encode("utf-8", "replace")
        assert made.body["stream"] is True
        assert made.body["model"] == "served"


@given(bodies("anthropic.MessagesRequest"))
def test_tokens_of_every_body_are_counted_or_refused(body: Json) -> None:
    def counted() -> int:
        shapes.check("anthropic.MessagesRequest", body)
        assert anthropic.counted(ROUTE, body)["messages"]
        return anthropic.estimate(body)

    assert refused_or(counted, {400}) != 0


@given(bodies("openai.ResponsesRequest"))
def test_every_request_of_responses_is_echoed(body: Json) -> None:
    try:
        shapes.check("openai.ResponsesRequest", body)
        responses.chat(ROUTE, {**body, "model": "m"})
    except Refusal:
        return
    tally = Tally(started=0, calls=[Call(0, "k", "f", "{")])
    for answer in (ResponsesAnswer("m", body, 1), MessagesAnswer("m", 1)):
        assert json.loads(answer.whole(tally))["model"] == "m"
        assert answer.end(tally).endswith("\n\n")


@given(anything, st.sampled_from([embed.native_inputs, embed.v1_inputs]))
def test_every_input_is_embedded_or_refused(given_: Any, read: Callable[[Json], list[str]]) -> None:
    texts = refused_or(lambda: read({"input": given_}), {400})
    assert texts is None or all(isinstance(text, str) for text in texts)


@given(st.text() | st.text('{}[]",:0123456789.eE+-truefalsn\\u '))
@example('{"a":tru}')
@example("[" * 100_000)
@example("1" * 5000)
@example("\ufeff{}")
def test_every_text_is_json_or_gos_error(text: str) -> None:
    said = wrong_with(text.encode("utf-8", "surrogatepass"))
    assert said is None or said


@given(st.binary())
def test_every_body_of_bytes_is_json_or_gos_error(raw: bytes) -> None:
    said = wrong_with(raw)
    assert said is None or said


@given(st.text())
def test_names(name: str) -> None:
    routes = {ROUTE.name: ROUTE}
    found = Config(routes, "0", "", {}).find(name)
    assert found is None or canonical(name) == ROUTE.name
    assert canonical(canonical(name)) == canonical(name)
    assert not valid(name) or all(sign.isalnum() or sign in "._-:/" for sign in name)


@pytest.mark.parametrize("name", ["m", "m:1", "ns/m", "hf.co/org/Repo-GGUF:Q4_K_M", "registry.ollama.ai/library/m:1", "h:5000/n/m"])
def test_valid_names(name: str) -> None:
    assert valid(name)


@pytest.mark.parametrize("name", ["!!bad name", "a b", "a//b", "/a", "a:", "a:b:c", ":", "é", "a/b/c/d", "x" * 100])
def test_invalid_names(name: str) -> None:
    assert not valid(name)
