"""`model` is found exactly, wherever it stands and however it is written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from gateway_lua import module
from hypothesis import given
from hypothesis import strategies as st

body, direct, names = (module(n) for n in ("body", "direct", "names"))


def found(raw: bytes | str) -> bytes | None:
    answer = body[b"model"](raw.encode() if isinstance(raw, str) else raw)
    return answer[0] if isinstance(answer, tuple) else answer


class Pairs(list):
    """The members of an object in order, duplicates and all."""


def as_go_reads_it(raw: str) -> str | None:
    """Keys in any case, the last one wins, null changes nothing, another type is an error."""
    name = None
    for key, value in json.loads(raw, object_pairs_hook=Pairs):
        if key.lower() == "model" and key.isascii():
            if isinstance(value, str):
                name = value
            elif value is not None:
                return None
    return name


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ('{"model":"a"}', "a"),
        (' \r\n\t{ "x" : 1 , "model"\n:\t"a" } ', "a"),
        ('{"options":{"model":"decoy"},"tools":[{"model":"decoy"}],"model":"a"}', "a"),
        ('{"options":{"model":"decoy"}}', None),
        ('{"content":"\\"model\\":\\"decoy\\"","model":"a"}', "a"),
        ('{"content":"\\\\","model":"a"}', "a"),
        ('{"content":"\\\\\\"","model":"a"}', "a"),
        ('{"\\u006dodel":"a"}', "a"),
        ('{"\\u006d\\u006f\\u0064\\u0065\\u006c":"a"}', "a"),
        ('{"MODEL":"a"}', "a"),
        ('{"model":"a","model":"b"}', "b"),
        ('{"model":"a","Model":"b"}', "b"),
        ('{"model":"a","model":null}', "a"),
        ('{"model":"\\u006clama\\ud83d\\ude00\\/\\n"}', "llama😀/\n"),
        ('{"model":"\\ud83d"}', "\ufffd"),
        ('{"model":1}', None),
        ('{"model":"a","model":1}', None),
        ('{"model":{"model":"a"}}', None),
        ('{"model":""}', ""),
        ('["model","a"]', None),
        ('"model"', None),
        ("{}", None),
        ("", None),
        ('{"model":"a"', None),
        ('{"model":"a', None),
        ('{"model":"a",', None),
        ('{"model" "a"}', None),
        ('{"model":}', None),
        ('{model:"a"}', None),
        ('{"x":[1,2}', None),
    ],
)
def test_cases(raw: str, name: str | None) -> None:
    assert found(raw) == (None if name is None else name.encode())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.just("model"), inner, max_size=3)
    ),
    max_leaves=12,
)
space = st.sampled_from(["", " ", "\n", "\t\r "])
KEYS = st.sampled_from(["model", "Model", "messages", "options", 'mo"del', "model\\"]) | st.text(max_size=6)


@st.composite
def bodies(draw: Any) -> str:
    """An object as text, with duplicate keys, letters escaped at random, and white space."""

    def text(value: str) -> str:
        if draw(st.booleans()):
            return json.dumps(value, ensure_ascii=draw(st.booleans()))
        units = value.encode("utf-16-be", "surrogatepass")
        return '"' + "".join(f"\\u{units[i]:02x}{units[i + 1]:02X}" for i in range(0, len(units), 2)) + '"'

    members = draw(st.lists(st.tuples(KEYS, VALUES | st.sampled_from(["a", "llama3.1:8b"])), max_size=6))
    parts = [
        f"{draw(space)}{text(key)}{draw(space)}:{draw(space)}"
        + (text(value) if isinstance(value, str) else json.dumps(value, indent=draw(st.sampled_from([None, 1]))))
        for key, value in members
    ]
    return "{" + ",".join(parts) + draw(space) + "}"


@given(bodies())
def test_every_valid_body_is_read_as_go_reads_it(raw: str) -> None:
    expected = as_go_reads_it(raw)
    assert found(raw) == (None if expected is None else expected.encode("utf-8", "replace"))


@given(st.binary() | bodies().map(str.encode), st.integers(0, 200), st.binary(max_size=3))
def test_garbage_never_raises(raw: bytes, at: int, put: bytes) -> None:
    found(raw[:at] + put + raw[at + 1 :])
    found(raw[:at])


def allowed(raw: str) -> bool:
    return direct[b"model"](raw.encode()) is not None


SAY = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]


def request(**changes: Any) -> str:
    return json.dumps({"model": "m", "messages": SAY, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"stream": True, "stream_options": {"include_usage": True}, "temperature": 0, "top_p": 1, "max_tokens": 1},
        {"temperature": 2, "top_p": 0.01, "seed": 0, "stop": "x", "frequency_penalty": -2, "presence_penalty": 2.0},
        {"stop": ["a", "b", "c", "d"], "user": "me", "stream": False},
        {"temperature": 1e-3},
    ],
)
def test_what_both_read_alike_goes_direct(changes: dict) -> None:
    assert allowed(request(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 2.01}, {"temperature": -1}, {"temperature": "1"}, {"temperature": None}, {"top_p": 0},
        {"top_p": 1.1}, {"max_tokens": 0}, {"max_tokens": -1}, {"max_tokens": 8.0}, {"seed": -1}, {"seed": 2**31},
        {"stop": ""}, {"stop": []}, {"stop": ["a"] * 5}, {"stop": [1]}, {"stop": [""]}, {"stop": 5},
        {"stream": 1}, {"stream_options": {"include_usage": True}}, {"stream": False, "stream_options": {"include_usage": True}},
        {"stream": True, "stream_options": {}}, {"stream": True, "stream_options": {"include_usage": True, "x": 1}},
        {"frequency_penalty": 3}, {"max_completion_tokens": 5}, {"n": 2}, {"tools": []}, {"response_format": {"type": "text"}},
        {"reasoning_effort": "low"}, {"logprobs": True}, {"options": {}}, {"keep_alive": 0}, {"Temperature": 1},
        {"messages": []}, {"messages": "x"}, {"messages": None}, {"messages": [{"role": "user"}]}, {"messages": [1]},
        {"messages": [{"role": "wizard", "content": "x"}]}, {"messages": [{"role": "user", "content": ["x"]}]},
        {"messages": [{"role": "user", "content": "x", "images": []}]}, {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "tool", "content": "x"}]},
    ],
)  # fmt: skip
def test_everything_else_goes_to_the_adapter(changes: dict) -> None:
    assert not allowed(request(**changes))


@pytest.mark.parametrize("tail", [" x", "{}", ","])
def test_what_follows_the_object_is_the_adapters_business(tail: str) -> None:
    assert not allowed(request() + tail)
    assert allowed(request() + " \n")


def test_a_key_given_twice_is_the_adapters_business() -> None:
    assert not allowed('{"model":"m","messages":[{"role":"user","content":"x"}],"seed":1,"seed":1}')
    assert not allowed('{"model":"m","messages":[{"role":"user","role":"user"}]}')
    assert not allowed('{"model":"m"}')


def members_of(texts: st.SearchStrategy[str]) -> dict[str, st.SearchStrategy[Any]]:
    """What both engines read alike, by key."""
    words = texts.filter(len)
    message = st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": texts})
    return {
        "model": words.filter(str.isprintable), "messages": st.lists(message, min_size=1), "user": texts,
        "temperature": st.sampled_from([0, 0.7, 2, 1e-3]), "top_p": st.sampled_from([0.01, 1]),
        "frequency_penalty": st.sampled_from([-2, 0.5]), "presence_penalty": st.sampled_from([-2, 2.0]),
        "seed": st.integers(0, 2**31 - 1), "max_tokens": st.integers(1, 2**31 - 1), "stream": st.booleans(),
        "stop": words | st.lists(words, min_size=1, max_size=4),
    }  # fmt: skip


@st.composite
def plain_bodies(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> tuple[str, str]:
    """A body that both engines read alike, written in any order and spacing, and its model."""
    members = members_of(texts)
    needed = {key: members.pop(key) for key in ("model", "messages")}
    value = draw(st.fixed_dictionaries(needed, optional=members))
    if value.get("stream") and draw(st.booleans()):
        value["stream_options"] = {"include_usage": draw(st.booleans())}
    shuffled = dict(draw(st.permutations(list(value.items()))))
    comma, colon = draw(st.sampled_from([",", ", ", " ,\n\t"])), draw(st.sampled_from([":", ": ", " :\r\n  "]))
    written = json.dumps(shuffled, separators=(comma, colon), ensure_ascii=draw(st.booleans()),
                         indent=draw(st.sampled_from([None, 0, 3])))  # fmt: skip
    return draw(space) + written + draw(space), value["model"]


@given(plain_bodies(st.text()))
def test_every_plain_body_goes_direct_under_its_name(written: tuple[str, str]) -> None:
    raw, model = written
    assert direct[b"model"](raw.encode()) == model.encode()
    assert found(raw) == model.encode()


def plain_by_the_book(raw: str) -> str | None:
    """The model if the body is JSON without a key given twice, and says only what both read alike."""
    members = json.loads(raw, object_pairs_hook=Pairs)
    value = dict(members)
    known = {*members_of(st.text()), "stream_options"}
    if len(value) != len(members) or not set(value) <= known or not value.get("messages"):
        return None
    for message in value["messages"]:
        if sorted(key for key, _ in message) != ["content", "role"] or not all(isinstance(text, str) for _, text in message):
            return None
    return value.get("model")


@given(plain_bodies(st.text("ab1 ,:{}[]")), st.integers(0, 10_000), st.sampled_from(["", *',{}[]": 1n']))
def test_nothing_else_goes_direct(written: tuple[str, str], at: int, put: str) -> None:
    raw, _ = written
    at %= len(raw)
    broken = raw[:at] + put + raw[at + 1 :]
    model = direct[b"model"](broken.encode())
    assert model is None or plain_by_the_book(broken) == model.decode()


parts = st.sampled_from(["library", "registry.ollama.ai", "https://registry.ollama.ai", "x", "Hf.co", "", "://", "m:t", "a:b:c"])


@given(st.one_of(st.text(alphabet="aB:/.-l ibraryegstomc", max_size=40), st.lists(parts, max_size=5).map("/".join)))
def test_names_are_the_same_in_lua_and_python(name: str) -> None:
    from orchestrator.names import canonical

    assert names[b"canonical"](name.encode()) == canonical(name).encode()
