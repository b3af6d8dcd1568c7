"""/v1/responses and /v1/messages: requests translated, answers event by event in Ollama's order."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.adapter import anthropic, responses
from orchestrator.adapter.anthropic_answer import MessagesAnswer
from orchestrator.adapter.ask import CHAT, Ask
from orchestrator.adapter.config import Route
from orchestrator.adapter.exchange import Answer, Translator
from orchestrator.adapter.pieces import Tally
from orchestrator.adapter.refusals import Refusal
from orchestrator.adapter.responses_answer import ResponsesAnswer

ROUTE = Route("m:1", "one", "http://e", "served", capabilities=("completion", "tools", "vision", "thinking"))
PLAIN = Route("m:1", "one", "http://e", "served", capabilities=("completion",))
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
Json = dict[str, Any]


def delta(finish: str | None = None, **fields: Any) -> Json:
    return {"choices": [{"index": 0, "delta": fields, "logprobs": None, "finish_reason": finish}]}


def call(index: int, name: str, arguments: str) -> Json:
    return delta(tool_calls=[{"index": index, "id": f"c{index}", "function": {"name": name, "arguments": arguments}}])


USAGE = {"choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10}}


def said(answer: Answer, *events: Json, stream: bool = True) -> str:
    data = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in (*events, USAGE))
    tally = Tally(started=100, sent=150)
    translator = Translator(Ask(ROUTE, "m:1", CHAT, {}, stream=stream), answer, tally)
    text = translator.feed(data + b"data: [DONE]\n\n", 200)
    return text if stream else answer.whole(tally)


def events(text: str) -> list[tuple[str, Json]]:
    found = []
    for event in text.split("\n\n")[:-1]:
        name, data = event.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_messages_become_a_conversation() -> None:
    request = {
        "model": "m:1", "max_tokens": 9, "system": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "image", "source": {
                "type": "base64", "media_type": "image/png", "data": "iVBORw0K"}}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm"},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}}]},
            {"role": "user", "content": [
                {"type": "text", "text": "and?"},
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "11C"}]}]},
        ],
        "tools": [{"name": "weather", "description": "d", "input_schema": SCHEMA}],
        "stop_sequences": ["a", "b", "c", "d", "e"], "top_k": 3, "temperature": 0.5, "stream": True,
        "thinking": {"type": "disabled"}, "tool_choice": {"type": "any"}, "metadata": {"user_id": "u"},
    }  # fmt: skip
    asked = anthropic.chat(ROUTE, anthropic.checked(request))
    assert isinstance(asked, Ask)
    body = asked.body
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "tool", "user"]
    assert body["messages"][0]["content"] == "Be brief."
    assert body["messages"][1]["content"][1]["image_url"]["url"] == "data:image/png;base64,iVBORw0K"
    assert body["messages"][2]["tool_calls"][0] == {
        "id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
    }  # fmt: skip
    assert body["messages"][2]["reasoning"] == "hm"
    assert body["messages"][3] == {"role": "tool", "content": "11C", "tool_call_id": "t1"}
    assert body["tools"][0]["function"]["parameters"] == SCHEMA
    assert (body["max_tokens"], body["temperature"], body["top_k"], body["top_p"]) == (9, 0.5, 3, 0.9)
    assert (body["stop"], asked.scan) == (["a", "b", "c", "d"], ("e",))
    assert body["chat_template_kwargs"]["enable_thinking"] is False
    assert "tool_choice" not in body


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"model": ""}, "model is required"),
        ({"max_tokens": 0}, "max_tokens is required and must be positive"),
        ({"messages": []}, "messages is required"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "invalid image source"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "x"}}]}]},
            "invalid image source type: url. Only base64 images are supported.",
        ),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "name": "f"}]}]},
            "tool_use block missing required 'id' field",
        ),
        ({"temperature": "hot"}, "MessagesRequest.temperature of type float64"),
        ({"messages": 5}, "MessagesRequest.messages of type"),
        ({"stop_sequences": "x"}, "MessagesRequest.stop_sequences of type"),
        ({"tools": [5]}, "MessagesRequest.tools of type"),
    ],
)
def test_messages_that_ollama_refuses(more: Json, says: str) -> None:
    request = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}], **more}
    with pytest.raises(Refusal) as refused:
        anthropic.chat(PLAIN, anthropic.checked(request))
    assert says in refused.value.message
    assert refused.value.status == 400


def test_thinking_is_never_refused_on_messages() -> None:
    request = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
    asked = anthropic.chat(PLAIN, {**request, "thinking": {"type": "enabled", "budget_tokens": 9}})
    assert isinstance(asked, Ask)
    assert "chat_template_kwargs" not in asked.body
    high = anthropic.chat(ROUTE, {**request, "output_config": {"effort": "xhigh"}})
    assert isinstance(high, Ask)
    assert high.body["reasoning_effort"] == "high"


def test_a_messages_stream_opens_and_closes_its_blocks() -> None:
    text = said(
        MessagesAnswer("M:1", 7),
        delta(role="assistant", content=""), delta(reasoning="hm"), delta(content="a<"), delta(content="b"),
        call(0, "weather", '{"city":'), delta(tool_calls=[{"index": 0, "function": {"arguments": '"Oslo"}'}}]),
        delta("tool_calls"),
    )  # fmt: skip
    found = events(text)
    assert all(name == data["type"] for name, data in found)
    assert [name.removeprefix("content_block_") for name, _ in found] == [
        "message_start", "start", "delta", "stop", "start", "delta", "delta", "stop", "start", "delta", "stop",
        "message_delta", "message_stop",
    ]  # fmt: skip
    assert [data["index"] for name, data in found if "block" in name] == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2]
    message = found[0][1]["message"]
    assert list(message) == ["id", "type", "role", "model", "content", "usage"]
    assert (message["model"], message["usage"]) == ("M:1", {"input_tokens": 7, "output_tokens": 0})
    assert found[8][1]["content_block"] == {"type": "tool_use", "id": "c0", "name": "weather", "input": {}}
    assert json.loads(found[9][1]["delta"]["partial_json"]) == {"city": "Oslo"}
    assert found[-2][1]["delta"] == {"stop_reason": "tool_use"}
    assert found[-2][1]["usage"] == {"input_tokens": 8, "output_tokens": 2}


@pytest.mark.parametrize(("finish", "reason"), [("length", "max_tokens"), ("stop", "end_turn")])
def test_a_messages_answer_without_words_is_whole(finish: str, reason: str) -> None:
    names = [name for name, _ in events(said(MessagesAnswer("m", 1), delta(finish)))]
    assert names == ["message_start", "message_delta", "message_stop"]
    whole = json.loads(said(MessagesAnswer("m"), delta(content="x"), delta(finish), stream=False))
    assert list(whole) == ["id", "type", "role", "model", "content", "stop_reason", "usage"]
    assert (whole["content"], whole["stop_reason"]) == ([{"type": "text", "text": "x"}], reason)


def test_the_error_event_has_anthropics_form() -> None:
    ((name, data),) = events(MessagesAnswer("m").error("gone"))
    assert (name, data) == ("error", {"type": "error", "error": {"type": "api_error", "message": "gone"}})


def test_responses_become_a_conversation() -> None:
    request = {
        "model": "m:1", "instructions": "Be brief.", "max_output_tokens": 9, "stream": True,
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"},
                                         {"type": "input_image", "image_url": "data:image/png;base64,iVBOR"}]},
            {"type": "reasoning", "encrypted_content": "hm", "summary": []},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "c"}]},
            {"type": "function_call", "call_id": "k1", "name": "f", "arguments": '{"x":1}'},
            {"type": "function_call", "call_id": "k2", "name": "g", "arguments": ""},
            {"type": "function_call_output", "call_id": "k1", "output": "11C"},
        ],
        "tools": [{"type": "function", "name": "f", "description": None, "parameters": SCHEMA}],
        "text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}},
        "reasoning": {"effort": "low"},
    }  # fmt: skip
    asked = responses.chat(ROUTE, request)
    assert isinstance(asked, Ask)
    body = asked.body
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "tool"]
    assert body["messages"][1]["content"][0] == {"type": "text", "text": "ab"}
    assert [one["id"] for one in body["messages"][2]["tool_calls"]] == ["k1", "k2"]
    assert (body["messages"][2]["content"], body["messages"][2]["reasoning"]) == ("c", "hm")
    assert body["messages"][3] == {"role": "tool", "content": "11C", "tool_call_id": "k1"}
    assert body["response_format"]["json_schema"]["schema"] == SCHEMA
    # temperature is forced to 1 as on the rest of /v1, top_p is not
    assert (body["temperature"], body["top_p"], body["max_tokens"], body["reasoning_effort"]) == (1.0, 0.9, 9, "low")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"input": 5}, "input must be a string or array"),
        ({"input": [{}]}, "input[0]: input item missing required 'type' field"),
        ({"input": [{"type": "tool_search"}]}, 'input[0]: unknown input item type: "tool_search"'),
        ({"input": [{"role": "user", "content": [{"type": "audio"}]}]}, "unknown content type: audio"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "file inputs are not currently supported"),
        ({"input": [{"type": "function_call", "arguments": "{"}]}, "failed to parse function call arguments"),
        ({"reasoning": {"effort": "huge"}}, 'invalid reasoning value: "huge"'),
        ({"temperature": "hot"}, "ResponsesRequest.temperature of type float64"),
        ({"tools": [{"type": "function", "name": "f"}]}, "does not support tools"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://x"}]}]},
            "image URLs are not currently supported",
        ),
    ],
)
def test_responses_that_ollama_refuses(more: Json, says: str) -> None:
    with pytest.raises(Refusal) as refused:
        responses.chat(PLAIN, {"model": "m", "input": "x", **more})
    assert says in refused.value.message


def test_responses_without_input_only_load() -> None:
    assert responses.chat(PLAIN, {"model": "m"}) == "load"
    nothing = Tally(started=0, finish="load")
    names = [name for name, _ in events(ResponsesAnswer("m", {}, 5).end(nothing))]
    assert names == ["response.created", "response.in_progress", "response.completed"]


def test_a_responses_stream_numbers_its_events() -> None:
    text = said(
        ResponsesAnswer("M:1", {"temperature": 0, "reasoning": {"effort": "low"}}, 5),
        delta(role="assistant", content=""), delta(reasoning="hm"), delta(content="a"), delta(content="b"),
        delta("stop"),
    )  # fmt: skip
    found = events(text)
    assert [data["sequence_number"] for _, data in found] == list(range(len(found)))
    assert all(list(data) == sorted(data) for _, data in found)
    assert [name.removeprefix("response.") for name, _ in found] == [
        "created", "in_progress", "output_item.added", "reasoning_summary_text.delta", "reasoning_summary_text.done",
        "output_item.done", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    final = found[-1][1]["response"]
    assert [item["type"] for item in final["output"]] == ["reasoning", "message"]
    assert final["output"][1]["content"][0]["text"] == "ab"
    assert (final["temperature"], final["reasoning"]) == (0, {"effort": "low", "summary": None})
    assert final["usage"]["total_tokens"] == 10
    items = {data["output_index"] for name, data in found if "output_text" in name}
    assert items == {1}


def test_calls_in_responses() -> None:
    both = (call(0, "f", '{"b":1,"a":2}'), call(1, "g", ""), delta("tool_calls"))
    found = events(said(ResponsesAnswer("m", {}, 5), *both))
    done = [data["item"] for name, data in found if name == "response.output_item.done"]
    assert [(item["name"], item["arguments"], item["call_id"]) for item in done] == [
        ("f", '{"b":1,"a":2}', "c0"), ("g", "{}", "c1"),
    ]  # fmt: skip
    assert len({item["id"] for item in done}) == 2
    whole = json.loads(said(ResponsesAnswer("m", {}, 5), *both, stream=False))
    assert [item["type"] for item in whole["output"]] == ["function_call", "function_call"]


@pytest.mark.parametrize("make", [lambda: MessagesAnswer("m", 1), lambda: ResponsesAnswer("m", {}, 5)])
def test_wherever_the_engines_bytes_are_cut_the_words_are_the_same(make: Any) -> None:
    words = ["grün ", "🙂", " end"]
    data = b"".join(
        b"data: " + json.dumps(delta(content=word), ensure_ascii=False).encode() + b"\n\n" for word in words
    )
    data += b"data: " + json.dumps(delta("stop")).encode() + b"\n\ndata: [DONE]\n\n"
    for cut in range(len(data)):
        translator = Translator(Ask(ROUTE, "m", CHAT, {}, stream=True), make(), Tally(started=0))
        text = "".join(translator.feed(part, 1) for part in (data[:cut], data[cut:]))
        got = [data.get("delta", "") for _, data in events(text)]
        spoken = [one.get("text", "") if isinstance(one, dict) else one for one in got]
        assert "".join(spoken) == "".join(words), cut
