"""The adapter as a process, in front of an engine, spoken to by the real clients and by raw bytes."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import ollama
import openai
import pytest
from adapter_engine import ROUTE, FakeEngine, free_port, serve


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    with FakeEngine(free_port()) as running:
        yield running


@pytest.fixture(scope="module")
def base(engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("adapter")
    routes = {
        "llama3.1:8b": {**ROUTE, "url": engine.url},
        "thinker:latest": {**ROUTE, "url": engine.url, "capabilities": ["completion", "thinking"]},
        "persona:latest": {**ROUTE, "url": engine.url, "system": "Be terse."},
        "emb:latest": {**ROUTE, "url": engine.url, "served": "emb:latest", "capabilities": ["embedding"]},
        "gone:latest": {**ROUTE, "url": "http://127.0.0.1:22099"},
    }
    config = folder / "config.json"
    config.write_text(json.dumps({"ollama": "", "version": "0.32.15", "routes": routes}))
    port = free_port()
    yield from serve(config, port, folder / "log")


@pytest.fixture
def client(base: str) -> Iterator[ollama.Client]:
    made = ollama.Client(base)
    yield made
    made._client.close()


@pytest.fixture
def oai(base: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{base}/v1", api_key="any", max_retries=0) as made:
        yield made


def lines(base: str, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    with httpx.stream("POST", base + path, json=body) as response:
        assert response.headers["content-type"] == "application/x-ndjson"
        return [json.loads(line) for line in response.iter_lines()]


def ask(text: str, model: str = "llama3.1:8b", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def test_ollama_client_streams_a_chat(client: ollama.Client) -> None:
    parts = list(client.chat("llama3.1:8b", [{"role": "user", "content": "one two three"}], stream=True))
    assert [part.message.content for part in parts] == ["one ", "two ", "three", ""]
    last = parts[-1]
    assert (last.done, last.done_reason, last.eval_count, last.prompt_eval_count) == (True, "stop", 3, 5)
    assert last.total_duration
    assert last.eval_duration
    assert last.prompt_eval_duration
    assert not any(part.done for part in parts[:-1])


def test_ollama_client_without_stream(client: ollama.Client) -> None:
    answer = client.chat("LLAMA3.1:8B", [{"role": "user", "content": "one two"}], options={"num_predict": 1})
    assert (answer.model, answer.message.content, answer.done_reason) == ("LLAMA3.1:8B", "one ", "length")


def test_ollama_client_generates(client: ollama.Client) -> None:
    answer = client.generate("llama3.1:8b", "alpha beta")
    assert (answer.response, answer.done) == ("alpha beta", True)
    assert list(answer.context or []) == [1, 2, 3, 100 + 1, 100 + 2]
    raw = client.generate("llama3.1:8b", "alpha beta", raw=True)
    assert (raw.response, raw.context) == ("alpha beta", None)


def test_context_goes_before_the_rendered_prompt(client: ollama.Client, engine: FakeEngine) -> None:
    answer = client.generate("llama3.1:8b", "more", context=[4, 5])
    assert answer.response == "tokens"
    assert engine.requests[-1]["prompt"] == [4, 5, 7, 8]


def test_ollama_client_calls_tools(client: ollama.Client, engine: FakeEngine) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    conversation: list[dict[str, Any]] = [{"role": "user", "content": "weather?"}]
    answer = client.chat("llama3.1:8b", conversation, tools=[tool])
    calls = answer.message.tool_calls or []
    assert [(call.function.name, dict(call.function.arguments)) for call in calls] == [
        ("weather", {"city": "Oslo"}),
        ("time", {}),
    ]
    conversation += [answer.message.model_dump(), {"role": "tool", "tool_name": "weather", "content": "11C"}]
    client.chat("llama3.1:8b", conversation)
    sent = engine.requests[-1]["messages"]
    assert sent[1]["tool_calls"][0]["function"]["arguments"] == '{"city": "Oslo"}'
    assert sent[2]["tool_call_id"] == sent[1]["tool_calls"][0]["id"]


def test_thinking_is_on_by_default_and_can_be_switched_off(client: ollama.Client, engine: FakeEngine) -> None:
    answer = client.chat("thinker", [{"role": "user", "content": "think now"}])
    assert (answer.message.thinking, answer.message.content) == ("let me see", "think now")
    assert engine.requests[-1]["chat_template_kwargs"]["enable_thinking"] is True
    client.chat("thinker", [{"role": "user", "content": "x"}], think=False)
    assert engine.requests[-1]["chat_template_kwargs"]["enable_thinking"] is False
    with pytest.raises(ollama.ResponseError, match=r'"llama3\.1:8b" does not support thinking') as refused:
        client.chat("llama3.1:8b", [{"role": "user", "content": "x"}], think=True)
    assert refused.value.status_code == 400


def test_ollama_client_embeds(client: ollama.Client, engine: FakeEngine) -> None:
    answer = client.embed("emb", ["a", ""])
    assert [list(vector) for vector in answer.embeddings][1] == [0.6, 0.8, 0.0, 0.0]
    assert answer.prompt_eval_count == 6
    assert engine.requests[-1]["truncate_prompt_tokens"] == -1
    assert len(client.embed("emb", "a", dimensions=2).embeddings[0]) == 2
    assert len(client.embeddings("emb", "a").embedding) == 4
    with pytest.raises(ollama.ResponseError, match="does not support embeddings"):
        client.embed("llama3.1:8b", "a")


def test_ollama_client_lists_and_shows(client: ollama.Client) -> None:
    assert "llama3.1:8b" in [model.model for model in client.list().models]
    assert client.ps().models[0].size_vram == 123
    assert client.show("llama3.1:8b").capabilities == ["completion", "tools"]
    with pytest.raises(ollama.ResponseError, match="model 'nope:latest' not found"):
        client.show("nope")


def test_ollama_client_loads_and_unloads(client: ollama.Client, engine: FakeEngine) -> None:
    before = len(engine.requests)
    assert client.generate("llama3.1:8b", keep_alive=-1).done_reason == "load"
    assert client.generate("llama3.1:8b", keep_alive=0).done_reason == "unload"
    assert client.chat("llama3.1:8b").done_reason == "load"
    assert len(engine.requests) == before


def test_openai_client_streams(oai: openai.OpenAI) -> None:
    stream = oai.chat.completions.create(
        model="llama3.1:8b",
        messages=[{"role": "user", "content": "one two"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "one two"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 7


def test_openai_client_gets_what_ollama_ignores_ignored(oai: openai.OpenAI, engine: FakeEngine) -> None:
    answer = oai.chat.completions.create(
        model="llama3.1:8b",
        messages=[{"role": "user", "content": "a b c d e f"}],
        n=2,
        temperature=2.0,
        max_completion_tokens=2,
        logit_bias={"5": 1},
        user="me",
        parallel_tool_calls=False,
        stop=["1", "2", "3", "4", "d"],
    )
    assert len(answer.choices) == 1
    assert answer.choices[0].message.content == "a b c "
    assert answer.choices[0].finish_reason == "stop"
    assert answer.system_fingerprint == "fp_ollama"
    sent = engine.requests[-1]
    dropped = {"n", "max_completion_tokens", "logit_bias", "user", "parallel_tool_calls", "max_tokens"}
    assert not dropped & sent.keys()
    assert (sent["temperature"], sent["top_p"], sent["top_k"]) == (2.0, 1.0, 17)


def test_openai_client_calls_tools(oai: openai.OpenAI) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    answer = oai.chat.completions.create(
        model="llama3.1:8b",
        messages=[{"role": "user", "content": "weather?"}],
        tools=[tool],  # type: ignore[list-item]
        tool_choice="required",
    )
    calls = answer.choices[0].message.tool_calls or []
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == [  # type: ignore[union-attr]
        ("call_abc", "weather", '{"city":"Oslo"}'),
        ("call_def", "time", "{}"),
    ]
    assert answer.choices[0].finish_reason == "tool_calls"


def test_openai_client_completes_in_the_chat_template(oai: openai.OpenAI, engine: FakeEngine) -> None:
    answer = oai.completions.create(model="llama3.1:8b", prompt="one two three", temperature=2.5)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("one two three", "stop")
    sent = engine.requests[-1]
    assert sent["messages"] == [{"role": "user", "content": "one two three"}]
    assert "max_tokens" not in sent
    assert sent["temperature"] == 2.0
    parts = list(oai.completions.create(model="llama3.1:8b", prompt="one two", stream=True))
    assert [part.choices[0].text for part in parts] == ["one ", "two", ""]


def test_openai_client_embeds_and_lists(oai: openai.OpenAI) -> None:
    # The client asks for base64 by itself and decodes it.
    assert oai.embeddings.create(model="emb", input=["", "b"]).data[0].embedding == pytest.approx([0.6, 0.8, 0, 0])
    assert "llama3.1:8b" in [model.id for model in oai.models.list()]
    assert oai.models.retrieve("Llama3.1:8B").id == "Llama3.1:8B"


def test_unknown_model_is_ollamas_404(oai: openai.OpenAI, client: ollama.Client) -> None:
    with pytest.raises(openai.NotFoundError, match="model 'nope' not found"):
        oai.chat.completions.create(model="nope", messages=[{"role": "user", "content": "x"}])
    with pytest.raises(ollama.ResponseError, match="model 'nope' not found") as refused:
        client.chat("nope", [{"role": "user", "content": "x"}])
    assert refused.value.status_code == 404


def test_system_and_defaults_of_the_modelfile(base: str, engine: FakeEngine) -> None:
    lines(base, "/api/chat", ask("x", "persona"))
    sent = engine.requests[-1]
    assert sent["messages"][0] == {"role": "system", "content": "Be terse."}
    assert (sent["temperature"], sent["top_p"], sent["top_k"], sent["stop"]) == (0.8, 0.9, 17, ["<|eot|>"])


def test_events_cut_anywhere_lose_nothing(base: str) -> None:
    text = "slices of héllo wörld 🙂 \u2028 end"
    got = lines(base, "/api/chat", ask(text))
    assert "".join(line["message"]["content"] for line in got) == text


def test_engine_that_dies_mid_stream_is_an_error_line(base: str) -> None:
    got = lines(base, "/api/chat", ask("die one two three"))
    assert [line.get("done") for line in got] == [False, False, None]
    assert got[-1] == {"error": "an error was encountered while running the model: EngineCore encountered an issue."}


def test_connection_that_breaks_mid_stream_is_an_error_frame(base: str) -> None:
    with httpx.stream("POST", f"{base}/v1/chat/completions", json=ask("cut a b c", stream=True)) as response:
        events = [line for line in response.iter_lines() if line]
    assert response.headers["content-type"] == "text/event-stream"
    assert "unexpected EOF" in json.loads(events[-1].removeprefix("data: "))["error"]["message"]
    assert not any("[DONE]" in event for event in events)


@pytest.mark.parametrize(("text", "model", "status"), [("refuse", "llama3.1:8b", 500), ("x", "gone", 502)])
def test_failure_before_the_first_text_is_a_status(base: str, text: str, model: str, status: int) -> None:
    for path in ("/api/chat", "/v1/chat/completions"):
        answer = httpx.post(base + path, json=ask(text, model, stream=True))
        assert answer.status_code == status
        assert "error" in answer.json()


def test_failure_inside_a_single_answer_is_a_status(base: str) -> None:
    assert httpx.post(f"{base}/api/chat", json=ask("die a b", stream=False)).status_code == 500
    assert httpx.post(f"{base}/api/chat", json=ask("cut a b", stream=False)).status_code == 502


def test_what_is_too_long_is_truncated_unless_forbidden(base: str, engine: FakeEngine) -> None:
    long = "x " * 2000
    answer = httpx.post(f"{base}/api/chat", json=ask(long, stream=False, options={"num_predict": 24}))
    assert answer.json()["eval_count"] == 24
    assert engine.requests[-1]["truncate_prompt_tokens"] == 1000
    refused = httpx.post(f"{base}/api/chat", json=ask(long, truncate=False))
    assert refused.status_code == 400
    assert "exceeds the available context size (1024 tokens)" in refused.json()["error"]


def test_the_oldest_messages_go_first_and_the_system_stays(base: str, engine: FakeEngine) -> None:
    turns = [{"role": "user", "content": f"{turn} " * 300} for turn in range(6)]
    body = {"model": "persona", "messages": [*turns, {"role": "user", "content": "last"}], "stream": False}
    assert httpx.post(f"{base}/api/chat", json=body).json()["message"]["content"] == "last"
    sent = engine.requests[-1]
    assert [message["content"][:5] for message in sent["messages"]] == ["Be te", "3 3 3", "4 4 4", "5 5 5", "last"]
    assert "truncate_prompt_tokens" not in sent


def test_client_that_leaves_aborts_the_engine(base: str, engine: FakeEngine) -> None:
    for stream in (True, False):
        engine.aborted.clear()
        host, port = base.removeprefix("http://").split(":")
        body = json.dumps(ask("endless", stream=stream)).encode()
        head = f"POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        before = len(engine.requests)
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head + body)
            if stream:
                assert connection.recv(100)
            while len(engine.requests) == before:
                time.sleep(0.01)
        assert engine.aborted.wait(10)


def test_single_answer_is_not_chunk_framed_ndjson(base: str) -> None:
    answer = httpx.post(f"{base}/api/chat", content=json.dumps(ask("<a> & b", stream=False)))
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert "\\u003ca\\u003e \\u0026 b" in answer.text
    assert list(answer.json()) == [
        "model", "created_at", "message", "done", "done_reason", "total_duration", "load_duration",
        "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration",
    ]  # fmt: skip


def test_connections_to_the_engine_are_used_again(base: str, engine: FakeEngine) -> None:
    before = len(engine.peers)
    for stream in (True, False, True):
        httpx.post(f"{base}/v1/chat/completions", json=ask("x y", stream=stream))
    assert len(set(engine.peers[before:])) < 3


def test_wrong_method_and_path(base: str) -> None:
    wrong = httpx.get(f"{base}/api/chat")
    assert (wrong.status_code, wrong.text, wrong.headers["allow"]) == (405, "405 method not allowed", "POST")
    missing = httpx.post(f"{base}/nope")
    assert (missing.status_code, missing.text) == (404, "404 page not found")


def test_configuration_is_read_again(engine: FakeEngine, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    route = {**ROUTE, "url": engine.url}
    config.write_text(json.dumps({"routes": {"a": route}}))
    server = serve(config, free_port(), tmp_path / "log")
    url = next(server)
    assert [model["name"] for model in httpx.get(f"{url}/api/tags").json()["models"]] == ["a:latest"]
    config.write_text("not json")
    other = tmp_path / "next.json"
    other.write_text(json.dumps({"routes": {"a": route, "b": route}}))
    other.rename(config)
    for _ in range(200):
        if len(httpx.get(f"{url}/api/tags").json()["models"]) == 2:
            break
        time.sleep(0.05)
    assert len(httpx.get(f"{url}/api/tags").json()["models"]) == 2
    server.close()


def test_log_has_one_line_per_request_and_no_prompts(engine: FakeEngine, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"routes": {"llama3.1:8b": {**ROUTE, "url": engine.url}}}))
    server = serve(config, free_port(), tmp_path / "log")
    url = next(server)
    httpx.post(f"{url}/api/chat", json=ask("secret words"))
    httpx.post(f"{url}/api/chat", json=ask("secret words", "nope"))
    server.close()
    text = (tmp_path / "log").read_text()
    logged = [json.loads(line) for line in text.splitlines()]
    asked = [line for line in logged if line.get("path") == "/api/chat"]
    assert [(line["status"], line["outcome"]) for line in asked] == [(200, "complete"), (404, "complete")]
    assert "secret" not in text
