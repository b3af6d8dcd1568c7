"""Small parts: configuration, error texts, embeddings, listings, JSON as Go writes it."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import names
from orchestrator.adapter import config, embed, listing, wire
from orchestrator.adapter.ask import CHAT, TEXT, Ask
from orchestrator.adapter.config import Route, canonical
from orchestrator.adapter.heard import fault_of, parse
from orchestrator.adapter.overflow import corrected, without_oldest
from orchestrator.adapter.pieces import Call
from orchestrator.adapter.refusals import EngineFault, Refusal, refusal_of
from orchestrator.errors import UsageError

ROUTE = Route("m:1", "one", "http://e", "served", context_length=1024)
OVERFLOW = (
    "This model's maximum context length is 1024 tokens. However, your prompt contains at least 1025 input "
    "tokens, which exceeds this limit even without any output tokens."
)


@given(st.text() | st.sampled_from(["Llama3.1", "registry.ollama.ai/library/X:1", "hf.co/Org/Repo:Q4"]))
def test_names_are_those_of_the_command_line(name: str) -> None:
    assert canonical(name) == names.canonical(name)


def test_routes_are_found_by_any_of_their_names() -> None:
    entry = {"engine": "e", "url": "http://e/", "served": "s", "names": ["Org/Llama-8B"], "context_length": None}
    made = config.parse({"routes": {"Llama3.1:8B": entry}, "version": "1"})
    found = made.find("org/llama-8b")
    assert found is made.find("LLAMA3.1:8b") is made.find("anything", "llama3.1:8b")
    assert found is not None
    assert (found.url, found.context_length) == ("http://e", 0)
    assert made.find("other") is None


@pytest.mark.parametrize("text", ["{", "[]", '{"routes": {"a": {}}}', '{"routes": {"a": 1}}', "{}"])
def test_bad_configuration_is_one_message(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="adapter configuration"):
        config.load(path)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "1970-01-01T00:00:00Z"), (1_795_224_052_096_818_296, "2026-11-21T01:20:52.096818296Z"),
     (1_500_000_000, "1970-01-01T00:00:01.5Z")],
)  # fmt: skip
def test_timestamps_are_gos(nanoseconds: int, text: str) -> None:
    assert wire.timestamp(nanoseconds) == text


@given(st.text())
def test_json_has_gos_escapes_and_its_meaning(text: str) -> None:
    written = wire.dumps({"a": text})
    assert json.loads(written) == {"a": text}
    assert not set("<>&\u2028\u2029") & set(written)
    wire.encode(written).decode()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, {"error": {"message": "The model `x` does not exist."}}, (404, "model 'M' not found")),
        (404, {"detail": "Not Found"}, (400, '"M" does not support chat')),
        (503, {"error": {"message": "The engine is currently busy"}}, (503, "server busy")),
        (500, {"error": {"message": "EngineCore", "code": 500}}, (500, "error was encountered while running")),
        (401, {"error": "Unauthorized"}, (500, "Unauthorized")),
        (502, {"error": "unreachable"}, (502, "unreachable")),
        (400, {"error": {"message": '"auto" tool choice requires --enable'}}, (400, "M does not support tools")),
        (400, {"error": {"message": "x is not a multimodal model"}}, (400, "Multimodal data provided")),
        (400, {"error": {"message": "Grammar error: x"}}, (400, "Grammar error: x")),
        (400, {"error": {"message": OVERFLOW}}, (400, "request (1025 tokens) exceeds the available context size (1024")),
    ],
)  # fmt: skip
def test_errors_of_vllm_become_ollamas(status: int, body: Any, expected: tuple[int, str]) -> None:
    refusal = refusal_of(fault_of(status, body), "M", 1024)
    assert refusal.status == expected[0]
    assert expected[1] in refusal.message


def question(path: str = CHAT, **fields: Any) -> Ask:
    body = {"prompt": "x"} if path == TEXT else {"messages": []}
    return Ask(ROUTE, "m", path, {"model": "served", **body, **fields}, stream=True)


class Tokenizer:
    """Counts ten tokens per message, or fails."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.asked = 0

    async def ask(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        assert url == "http://e/tokenize"
        self.asked += 1
        if self.fails:
            raise EngineFault(404, "Not Found")
        return {"count": 10 * len(body["messages"])}


def fixed(asked: Ask, fault: EngineFault, tokenizer: Tokenizer | None = None) -> bool:
    return asyncio.run(corrected(tokenizer or Tokenizer(), asked, fault))


def conversation(roles: str) -> list[dict[str, Any]]:
    names_ = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": names_[role], "content": str(at)} for at, role in enumerate(roles)]


@given(st.text("sua", min_size=1, max_size=12), st.integers(0, 12))
def test_system_messages_and_the_last_one_always_stay(roles: str, count: int) -> None:
    messages = conversation(roles)
    kept = without_oldest(messages, count)
    assert kept[-1] is messages[-1]
    assert [m for m in messages[:-1] if m["role"] == "system"] == [m for m in kept[:-1] if m["role"] == "system"]
    assert len(messages) - len(kept) == min(count, sum(role != "s" for role in roles[:-1]))


@given(st.text("sua", min_size=2, max_size=40), st.integers(15, 400))
def test_as_few_messages_as_needed_are_dropped(roles: str, limit: int) -> None:
    tokenizer = Tokenizer()
    asked = question(messages=conversation(roles))
    fault = EngineFault(400, f"This model's maximum context length is {limit} tokens.")
    assert fixed(asked, fault, tokenizer)
    assert tokenizer.asked <= 8
    kept = len(asked.body["messages"])
    if "truncate_prompt_tokens" not in asked.body:
        assert 10 * kept < limit
        assert kept == len(roles) - 1 or 10 * (kept + 1) >= limit


def test_a_tokenizer_that_fails_leaves_truncation() -> None:
    asked = question(messages=conversation("uau"))
    assert fixed(asked, EngineFault(400, OVERFLOW), Tokenizer(fails=True))
    assert len(asked.body["messages"]) == 3
    assert asked.body["truncate_prompt_tokens"] == 512


def test_a_prompt_that_is_too_long_is_truncated_once() -> None:
    asked = question(max_tokens=100)
    assert fixed(asked, EngineFault(400, OVERFLOW))
    assert asked.body["truncate_prompt_tokens"] == 924
    assert not fixed(asked, EngineFault(400, OVERFLOW))
    unlimited = question()
    full = EngineFault(400, "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)")
    assert fixed(unlimited, full)
    assert unlimited.body["truncate_prompt_tokens"] == 512


def test_truncation_can_be_forbidden_and_other_errors_are_not_corrected() -> None:
    asked = question()
    asked.truncate = False
    assert not fixed(asked, EngineFault(400, OVERFLOW))
    assert not fixed(question(), EngineFault(400, "Grammar error"))
    assert not fixed(question(), EngineFault(500, OVERFLOW))


def test_more_tokens_than_the_context_are_all_there_are() -> None:
    fault = EngineFault(400, "max_tokens=5000 cannot be greater than max_model_len=1024.")
    asked = question(max_tokens=5000)
    assert fixed(asked, fault)
    assert "max_tokens" not in asked.body
    raw = question(TEXT, max_tokens=5000)
    assert fixed(raw, fault)
    assert raw.body["max_tokens"] == 1023


def test_error_frames_and_nonsense_are_faults() -> None:
    for event in (b'{"error":{"message":"x","code":500}}', b"{", b"[]", b"\xff"):
        with pytest.raises(EngineFault):
            parse(event)
    assert parse(b"{}").content == ""


def test_logprobs_of_completions_get_the_form_of_chats() -> None:
    logprobs = {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": [{"a": -1.0, "é": -2.0}]}
    piece = parse(json.dumps({"choices": [{"text": "a", "logprobs": logprobs}]}).encode())
    assert piece.logprobs[0]["bytes"] == [97]
    assert piece.logprobs[0]["top_logprobs"][1] == {"token": "é", "logprob": -2.0, "bytes": [195, 169]}


def test_arguments_that_are_no_object_are_not_lost() -> None:
    assert Call(0, arguments='{"a": 1').as_object() == {"raw": '{"a": 1'}
    assert Call(0).as_object() == {}


@pytest.mark.parametrize(("given", "texts"), [("a", ["a"]), (["a", "b"], ["a", "b"]), ("", []), ([], []), (None, [])])
def test_native_inputs(given: Any, texts: list[str]) -> None:
    assert embed.native_inputs({"input": given}) == texts


@pytest.mark.parametrize(
    ("request_", "text"),
    [({"input": [1, 2]}, "invalid input type"), ({}, "invalid input"), ({"input": ""}, "cannot be truncated further"),
     ({"input": "x", "encoding_format": "zip"}, "Invalid value for 'encoding_format' = zip")],
)  # fmt: skip
def test_v1_inputs_that_are_refused(request_: dict[str, Any], text: str) -> None:
    with pytest.raises(Refusal, match=text) as caught:
        embed.v1_inputs(request_)
    assert caught.value.status == 400


def test_vectors_are_ordered_cut_and_of_length_one() -> None:
    data = {"data": [{"index": 1, "embedding": [0.0, 2.0, 1.0]}, {"index": 0, "embedding": [3.0, 4.0, 0.0]}]}
    assert embed.vectors(data, 2, count=2) == [[0.6, 0.8], [0.0, 1.0]]
    assert embed.vectors({"data": [{"index": 0, "embedding": [0.0, 0.0]}]}, count=1) == [[0.0, 0.0]]


def test_base64_is_of_32_bit_floats() -> None:
    got = embed.v1_answer("m", [[0.5, -1.0]], "base64", 3)["data"][0]["embedding"]
    assert struct.unpack("<2f", base64.b64decode(got)) == (0.5, -1.0)


def test_truncation_of_embeddings_can_be_forbidden() -> None:
    assert embed.question(ROUTE, ["a"], truncate=True)["truncate_prompt_tokens"] == -1
    assert "truncate_prompt_tokens" not in embed.question(ROUTE, ["a"], truncate=False)
    refusal = embed.refusal(EngineFault(400, OVERFLOW), "m", 1024)
    assert refusal.message == "the input length exceeds the context length"
    assert embed.refusal(EngineFault(404, "Not Found"), "m", 0).status == 501


def test_listings() -> None:
    entry = {
        "engine": "e",
        "url": "u",
        "served": "s",
        "size": 5,
        "digest": "d",
        "modified_at": "2026-11-21T01:19:41.16Z",
    }
    made = config.parse({"routes": {"ns/a": {**entry, "parameters": {"stop": ["x", "y"], "top_k": 3}, "system": "S"}}})
    assert listing.tags(made)["models"][0]["name"] == "ns/a:latest"
    assert listing.running(made)["models"][0]["size_vram"] == 5
    model = listing.v1_models(made)["data"][0]
    assert model == {"id": "ns/a:latest", "object": "model", "created": 1795223981, "owned_by": "ns"}
    shown = listing.show(made.routes["ns/a:latest"])
    assert shown["parameters"].splitlines()[0] == f'{"stop":<30} "x"'
    assert shown["system"] == "S"
    recorded = config.parse({"routes": {"a": {**entry, "show": {"template": "T"}}}}).routes["a:latest"]
    assert listing.show(recorded) == {"template": "T"}
