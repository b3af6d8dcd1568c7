"""Requests in Ollama's words become requests in vLLM's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.adapter import native, options, v1
from orchestrator.adapter.ask import CHAT, TEXT, Ask
from orchestrator.adapter.config import Route
from orchestrator.adapter.refusals import Refusal

CAN = ("completion", "tools", "vision")


def route(**fields: Any) -> Route:
    given = {"capabilities": CAN, "context_length": 1024, **fields}
    return Route("m:1", "one", "http://e", "served", **given)


USER = {"role": "user", "content": "hi"}


def chat(where: Route | None = None, **request: Any) -> Ask:
    made = native.chat(where or route(), {"model": "M:1", "messages": [USER], **request})
    assert isinstance(made, Ask)
    return made


def generate(where: Route | None = None, **request: Any) -> Ask:
    made = native.generate(where or route(), {"model": "M:1", "prompt": "hi", **request})
    assert isinstance(made, Ask)
    return made


def v1_chat(where: Route | None = None, **request: Any) -> dict[str, Any]:
    return v1.chat(where or route(), {"model": "M:1", "messages": [USER], **request}).body


def refused(call: Any, *args: Any, **kwargs: Any) -> tuple[int, str]:
    with pytest.raises(Refusal) as caught:
        call(*args, **kwargs)
    return caught.value.status, caught.value.message


def test_defaults_are_ollamas_native_ones() -> None:
    made = chat()
    assert (made.path, made.name, made.stream, made.truncate) == (CHAT, "M:1", True, True)
    assert made.body == {
        "model": "served", "messages": [USER], "temperature": 0.8, "top_p": 0.9, "top_k": 40, "min_p": 0.0,
        "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip


def test_the_modelfile_is_between_the_defaults_and_the_request() -> None:
    where = route(parameters={"temperature": 0.1, "top_k": 5, "stop": ["a"], "num_ctx": 99, "repeat_penalty": 1.2})
    body = chat(where, options={"top_k": 7, "num_ctx": 1, "mirostat": 2, "typical_p": 0.5}).body
    assert (body["temperature"], body["top_k"], body["stop"], body["repetition_penalty"]) == (0.1, 7, ["a"], 1.2)
    assert not {"num_ctx", "mirostat", "typical_p"} & body.keys()
    assert chat(where, options={"stop": ["b"]}).body["stop"] == ["b"]


@pytest.mark.parametrize(("asked", "sent"), [(5, 5), (0, None), (-1, None), (-2, None), (5000, None), (1024, None)])
def test_num_predict(asked: int, sent: int | None) -> None:
    assert chat(options={"num_predict": asked}).body.get("max_tokens") == sent
    assert v1_chat(max_tokens=asked).get("max_tokens") == sent


@given(st.dictionaries(st.sampled_from([*list(options.NATIVE), "repeat_penalty", "presence_penalty", "frequency_penalty"]),
                       st.floats(allow_infinity=True, allow_nan=False) | st.integers()))  # fmt: skip
def test_every_number_ends_inside_vllms_range(asked: dict[str, float]) -> None:
    sent = options.sampling(options.native({}, asked))
    assert 0 <= sent["temperature"] <= 2
    assert 0 < sent["top_p"] <= 1
    assert sent["top_k"] >= 0
    assert 0 <= sent["min_p"] <= 1
    assert sent["repetition_penalty"] > 0
    assert -2 <= sent["presence_penalty"] <= 2
    assert -2 <= sent["frequency_penalty"] <= 2


def test_seed_minus_one_is_random() -> None:
    assert "seed" not in chat(options={"seed": -1}).body
    assert chat(options={"seed": 0}).body["seed"] == 0


@pytest.mark.parametrize(
    ("option", "kind"),
    [({"temperature": "hot"}, "float32"), ({"stop": "x"}, "array"), ({"seed": True}, "integer"),
     ({"use_mmap": 1}, "boolean"), ({"stop": [1]}, "an array of strings")],
)  # fmt: skip
def test_an_option_of_a_wrong_type_is_ollamas_500(option: dict[str, Any], kind: str) -> None:
    name = next(iter(option))
    assert refused(chat, options=option) == (500, f'option "{name}" must be of type {kind}'.replace(
        "type an", "an"))  # fmt: skip


def test_more_than_four_stops_are_ours() -> None:
    made = chat(options={"stop": ["1", "2", "2", "", "3", "4", "5", "6"]})
    assert (made.body["stop"], made.scan) == (["1", "2", "3", "4"], ("5", "6"))
    assert made.body["stream_options"]["continuous_usage_stats"] is True


def test_system_and_messages_of_the_modelfile() -> None:
    where = route(
        system="Be terse.", messages=({"role": "user", "content": "q"}, {"role": "assistant", "content": "a"})
    )
    roles = [message["role"] for message in chat(where).body["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    own = [{"role": "system", "content": "mine"}, USER]
    contents = [message["content"] for message in chat(where, messages=own).body["messages"]]
    assert contents == ["q", "a", "mine", "hi"]
    assert [message["content"] for message in generate(where, system="S").body["messages"]] == ["S", "q", "a", "hi"]


def test_format() -> None:
    assert chat(format="json").body["response_format"] == {"type": "json_object"}
    schema = {"type": "object"}
    assert chat(format=schema).body["response_format"]["json_schema"]["schema"] == schema
    assert "response_format" not in chat(format="").body
    assert refused(chat, format="xml")[0] == 400


def test_images_become_parts_typed_by_their_first_bytes() -> None:
    body = chat(messages=[{**USER, "images": ["iVBORw0K", "/9j/4AAQ"]}]).body
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "hi"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0K"}},
        {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9j/4AAQ"}},
    ]
    blind = route(capabilities=("completion",))
    assert "Multimodal data provided" in refused(chat, blind, messages=[{**USER, "images": ["x"]}])[1]


def test_results_of_tools_find_their_calls() -> None:
    calls = [{"function": {"name": name, "arguments": {"a": 1}}} for name in ("f", "g")]
    body = chat(
        messages=[
            USER,
            {"role": "assistant", "content": "", "tool_calls": calls},
            {"role": "tool", "tool_name": "g", "content": "2"},
            {"role": "tool", "content": "1"},
        ]
    ).body
    _, said, second, first = body["messages"]
    assert [call["function"]["arguments"] for call in said["tool_calls"]] == ['{"a": 1}', '{"a": 1}']
    assert [second["tool_call_id"], first["tool_call_id"]] == [call["id"] for call in reversed(said["tool_calls"])]
    assert len({call["id"] for call in said["tool_calls"]}) == 2


def test_capabilities_are_refused_in_ollamas_words() -> None:
    plain = route(capabilities=("completion",))
    tool = [{"type": "function", "function": {"name": "f"}}]
    assert refused(chat, plain, tools=tool) == (400, "registry.ollama.ai/library/m:1 does not support tools")
    assert refused(chat, plain, think=True) == (400, '"M:1" does not support thinking')
    assert refused(v1_chat, plain, reasoning_effort="high") == (400, '"M:1" does not support thinking')
    assert "chat_template_kwargs" not in chat(plain, think=False).body
    embeds = route(capabilities=("embedding",))
    assert refused(chat, embeds) == (400, '"M:1" does not support chat')
    assert refused(generate, embeds) == (400, '"M:1" does not support generate')
    assert refused(generate, suffix="x") == (400, "registry.ollama.ai/library/m:1 does not support insert")


@pytest.mark.parametrize(("asked", "on", "effort"), [(None, True, None), (True, True, None), (False, False, None),
                                                     ("low", True, "low"), ("max", True, "high")])  # fmt: skip
def test_thinking(asked: Any, on: bool, effort: str | None) -> None:
    body = chat(route(capabilities=("thinking",)), think=asked).body
    assert body["chat_template_kwargs"]["enable_thinking"] is on
    assert body.get("reasoning_effort") == effort


@pytest.mark.parametrize(("asked", "on"), [("none", False), ("high", True), (None, True)])
def test_reasoning_effort(asked: str | None, on: bool) -> None:
    thinker = route(capabilities=("thinking",))
    assert v1_chat(thinker, reasoning_effort=asked)["chat_template_kwargs"]["enable_thinking"] is on
    assert v1_chat(thinker, reasoning={"effort": asked})["chat_template_kwargs"]["enable_thinking"] is on


def test_empty_requests_load_and_unload() -> None:
    assert native.chat(route(), {"model": "m"}) == "load"
    assert native.chat(route(), {"model": "m", "messages": [], "keep_alive": "0s"}) == "unload"
    assert native.generate(route(), {"model": "m", "keep_alive": 0}) == "unload"
    assert v1.completion(route(), {"model": "m", "prompt": ""}) == "load"


@pytest.mark.parametrize(("text", "seconds"), [("5m", 300), ("1h30m", 5400), (-1, -1), ("-1s", -1), (7, 7), ("0", 0)])
def test_keep_alive(text: Any, seconds: float) -> None:
    assert options.keep_alive(text) == seconds


@pytest.mark.parametrize("text", ["abc", "5 m", "5m3", "m", "", True, []])
def test_bad_keep_alive_is_gos_text(text: Any) -> None:
    assert refused(options.keep_alive, text) == (400, f'time: invalid duration "{text}"')


@pytest.mark.parametrize("text", ["10", "-3", "1.5"])
def test_a_keep_alive_without_unit_says_so(text: str) -> None:
    assert refused(options.keep_alive, text) == (400, f'time: missing unit in duration "{text}"')


def test_raw_goes_past_the_template() -> None:
    made = generate(raw=True)
    assert (made.path, made.body["prompt"]) == (TEXT, "hi")
    assert made.body["max_tokens"] == 1023  # vLLM's own default is 16
    wrong = "raw mode does not support template, system, or context"
    assert refused(generate, raw=True, system="x") == (400, wrong)


def test_generate_asks_for_the_tokens_of_its_context() -> None:
    made = generate(context=[1, 2])
    assert made.context == [1, 2]
    assert made.body["return_token_ids"] is True


def test_logprobs() -> None:
    body = chat(logprobs=True, top_logprobs=3).body
    assert (body["logprobs"], body["top_logprobs"]) == (True, 3)
    assert "top_logprobs" not in chat(top_logprobs=3).body
    assert refused(chat, top_logprobs=21)[0] == 400
    assert generate(raw=True, logprobs=True, top_logprobs=3).body["logprobs"] == 3


def test_v1_overrides_the_modelfile_for_two_parameters() -> None:
    where = route(parameters={"temperature": 0.1, "top_p": 0.2, "top_k": 5, "num_predict": 9})
    body = v1_chat(where)
    assert (body["temperature"], body["top_p"], body["top_k"], body["max_tokens"]) == (1.0, 1.0, 5, 9)


def test_v1_drops_what_ollama_does_not_read() -> None:
    ignored = {
        "n": 2, "tool_choice": "required", "logit_bias": {}, "user": "x", "max_completion_tokens": 3,
        "parallel_tool_calls": False, "top_k": 1, "min_p": 0.5, "best_of": 2, "echo": True, "keep_alive": 5,
        "options": {"temperature": 0}, "frequency_penalty": None, "stop": 5,
    }  # fmt: skip
    assert v1_chat(**ignored) == v1_chat()


def test_v1_stop_and_formats() -> None:
    assert v1_chat(stop="x")["stop"] == ["x"]
    assert v1_chat(response_format={"type": "json_object"})["response_format"] == {"type": "json_object"}
    wanted = {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}
    sent = v1_chat(response_format=wanted)["response_format"]["json_schema"]
    assert sent == {"name": "response", "schema": {"type": "object"}}
    assert "response_format" not in v1_chat(response_format={"type": "text"})


def test_v1_messages() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert v1_chat(messages=[{"role": "user", "content": parts}])["messages"][0]["content"] == "a\nb"
    assert refused(v1_chat, messages=[]) == (400, "[] is too short - 'messages'")
    image = {"type": "image_url", "image_url": {"url": "http://x/a.png"}}
    assert (
        "image URLs are not currently supported" in refused(v1_chat, messages=[{"role": "user", "content": [image]}])[1]
    )
    inline = {"type": "image_url", "image_url": {"url": "data:image/png;base64,x"}}
    assert v1_chat(messages=[{"role": "user", "content": [inline]}])["messages"][0]["content"] == [inline]


def test_v1_completion_is_a_chat_of_one_message() -> None:
    made = v1.completion(route(system="S"), {"model": "m", "prompt": "p", "stream": True, "best_of": 3})
    assert isinstance(made, Ask)
    assert made.path == CHAT
    assert [message["content"] for message in made.body["messages"]] == ["S", "p"]
    assert "max_tokens" not in made.body
    assert refused(v1.completion, route(), {"model": "m", "prompt": ["a"]})[1].startswith(
        "json: cannot unmarshal array"
    )


def test_unknown_capabilities_are_trusted() -> None:
    assert "tools" in chat(route(capabilities=()), tools=[{"type": "function"}]).body
