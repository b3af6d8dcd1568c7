"""The judges of this suite see what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from clients_sequences import Played, at, chosen, lacking, load, parsed
from compared import ABSENT, Difference, Row, differences, walk
from shapes import shape

TAGS = {"models": [{"name": "a", "size": 1}, {"name": "b"}], "llama.context_length": 5, "at": "2026-01-01T00:00:00.123456789Z"}


@pytest.mark.parametrize("path, need", [
    ("models/0/name", "a"), ("models/name=b/name", "text"), ("models/*/name", "text"), ("models/0/size", "number"),
    ("llama.context_length", 5), ("at", "time"), ("nope", "absent"), ("models", "list"), ("models/0", "object"),
    ("models/*/name", "~^[ab]$"), ("models/0/name", "any"),
])  # fmt: skip
def test_what_is_there_is_found(path: str, need: Any) -> None:
    assert lacking(TAGS, {path: need}) == []


@pytest.mark.parametrize("path, need", [
    ("models/0/name", "b"), ("models/name=c/name", "text"), ("models/*/size", "number"), ("models/0/size", "text"),
    ("llama.context_length", "bool"), ("at", "~x"), ("models", "absent"), ("models/7", "any"), ("models/0/name", "time"),
    ("models/0/name/deep", "any"), ("models/0", "list"),
])  # fmt: skip
def test_what_is_not_there_is_said(path: str, need: Any) -> None:
    assert len(lacking(TAGS, {path: need})) == 1


def test_any_part_must_have_all_of_it() -> None:
    parts = [{"a": 1}, {"b": 2}, {"a": 3, "b": 4}]
    assert lacking(parts, {"a": 3, "b": 4}) == []
    assert lacking(parts, {"a": 1, "b": 4}) != []


def test_an_empty_answer_has_no_parts() -> None:
    played = Played()
    assert chosen("last", [], "step", played) == []
    assert played.wrong == ["step: an empty answer"]


def test_answers_are_taken_apart() -> None:
    assert list(parsed("application/x-ndjson", '{"a":1}\n{"a":2}\n')) == [{"a": 1}, {"a": 2}]
    assert list(parsed("text/event-stream", 'event: x\ndata: {"a":1}\n\ndata: [DONE]\n\n')) == [{"a": 1}, "[DONE]"]
    assert list(parsed("text/plain", "Ollama is running")) == ["Ollama is running"]
    assert at([1, [2]], ["1", "0"]) == 2


def test_a_file_that_is_no_sequence_is_named(tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_text("client: x\nsources: []\nsteps: [{step: a}]\n")
    with pytest.raises(ValueError, match=r"odd\.yaml"):
        load(tmp_path)


def test_shapes_keep_what_programs_rely_on() -> None:
    value = {"role": "assistant", "n": 1, "on": True, "text": "x", "none": None, "list": [1, 2.5, "a", "b"]}
    assert shape(value) == {"role": "assistant", "n": "number", "on": "bool", "text": "str", "none": "NoneType",
                            "list": ["number", "str"]}  # fmt: skip


def test_differences_are_found_where_they_are() -> None:
    one, two = {"a": [{"b": 1}], "c": 1}, {"a": [{"b": 2}], "d": 1}
    assert list(walk(one, two)) == [("a[0].b", 1, 2), ("c", 1, ABSENT), ("d", ABSENT, 1)]
    assert [str(found) for found in differences("x", {"case": 1}, {})] == ["x case at its top: 1 on Ollama, 'absent'"]


def test_a_row_covers_no_more_than_it_says() -> None:
    row = Row("x, y", "chat*", "*logprobs", "why", "more")
    assert row.covers(Difference("y", "chat-stream", "a.logprobs", ABSENT, 1))
    assert not row.covers(Difference("y", "chat-stream", "a.logprobs", 1, ABSENT))
    assert not row.covers(Difference("z", "chat", "logprobs", ABSENT, 1))
    assert not row.covers(Difference("x", "embed", "logprobs", ABSENT, 1))
    assert not Row("*", "*", "*", "why", sides="absent").covers(Difference("x", "chat", "", 1, 2))
