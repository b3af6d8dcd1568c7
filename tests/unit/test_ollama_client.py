"""The door to Ollama: what it reads out of the server's answers, and what it says when there is none."""

from __future__ import annotations

import json

import httpx
import pytest

from orchestrator.clients.ollama import Ollama, Tag, parse_parameters
from orchestrator.errors import MigrateError
from orchestrator.observe.ollama import _model

TAG = {
    "name": "llama3.1:8b",
    "model": "llama3.1:8b",
    "modified_at": "2026-11-21T01:18:23Z",
    "size": 4920000000,
    "digest": "86d5aec76aa6",
    "details": {"family": "llama", "parameter_size": "8.0B", "quantization_level": "Q4_K_M"},
    "capabilities": ["completion", "tools"],
}


def door(answers, seen=None):
    def answer(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append((request.url.path, json.loads(request.content) if request.content else None))
        reply = answers[request.url.path]
        return reply if isinstance(reply, httpx.Response) else httpx.Response(200, json=reply)

    return Ollama("http://ollama.test:11434/", transport=httpx.MockTransport(answer))


def test_version_and_tags():
    with door({"/api/version": {"version": "0.32.15"}, "/api/tags": {"models": [TAG]}}) as ollama:
        assert ollama.version() == "0.32.15"
        (tag,) = ollama.tags()
    assert (tag.name, tag.size, tag.capabilities) == ("llama3.1:8b", 4920000000, ("completion", "tools"))
    assert tag.details["quantization_level"] == "Q4_K_M"


def test_no_models_is_an_empty_list():
    with door({"/api/tags": {"models": None}, "/api/ps": {"models": []}}) as ollama:
        assert ollama.tags() == ()
        assert ollama.ps() == ()


def test_show_reads_parameters_system_and_messages():
    shown = {
        "template": "{{ .Prompt }}",
        "system": "Be brief.",
        "parameters": 'stop                           "<|eot_id|>"\nstop "a b"\ntemperature 0.7\nnum_ctx 8192',
        "messages": [{"role": "user", "content": "hi"}],
        "details": {"family": "llama"},
        "model_info": {"general.architecture": "llama"},
        "capabilities": ["completion"],
    }
    with door({"/api/show": shown}) as ollama:
        model = ollama.show("llama3.1:8b")
    assert model.parameters == {"stop": ["<|eot_id|>", "a b"], "temperature": 0.7, "num_ctx": 8192}
    assert (model.system, model.messages[0]["content"]) == ("Be brief.", "hi")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", {}),
        ("mirostat_mode on", {"mirostat_mode": "on"}),
        ("use_mmap true\n\nseed 7", {"use_mmap": True, "seed": 7}),
        ("stop 3", {"stop": ["3"]}),
    ],
)
def test_parameters_text(text, expected):
    assert parse_parameters(text) == expected


def test_ps_gives_sizes():
    entry = {"name": "m:latest", "size": 100, "size_vram": 40, "context_length": 2048}
    with door({"/api/ps": {"models": [entry]}}) as ollama:
        (running,) = ollama.ps()
    assert (running.name, running.size, running.size_vram, running.context_length) == ("m:latest", 100, 40, 2048)


def test_load_and_unload_generate_nothing():
    seen = []
    with door(
        {"/api/generate": {"done": True, "done_reason": "load"}, "/api/embed": {"embeddings": [[0.1]]}}, seen
    ) as ollama:
        ollama.load("a:1", -1, options={"num_ctx": 8192})
        ollama.load("e:1", "5m", embedding=True)
        ollama.unload("a:1")
    assert seen == [
        ("/api/generate", {"model": "a:1", "keep_alive": -1, "options": {"num_ctx": 8192}, "stream": False}),
        ("/api/embed", {"model": "e:1", "keep_alive": "5m", "input": "."}),
        ("/api/generate", {"model": "a:1", "keep_alive": 0, "stream": False}),
    ]


def test_unknown_model_says_how_to_get_it():
    missing = httpx.Response(404, json={"error": "model 'nope' not found"})
    with door({"/api/show": missing}) as ollama, pytest.raises(MigrateError) as caught:
        ollama.show("nope")
    assert "no model nope" in caught.value.message
    assert "ollama pull nope" in caught.value.hint
    assert "not found" in caught.value.evidence


@pytest.mark.parametrize(
    "reply", [httpx.Response(200, text="<html>"), httpx.Response(404, text="nginx"), httpx.Response(200, json=[1])]
)
def test_something_else_on_the_port_is_said(reply):
    with door({"/api/version": reply}) as ollama, pytest.raises(MigrateError) as caught:
        ollama.version()
    assert "--ollama URL" in caught.value.hint


def failing(error):
    def raise_it(_request):
        raise error

    return Ollama("http://127.0.0.1:9", transport=httpx.MockTransport(raise_it))


def test_refused_connection_says_what_to_run():
    with failing(httpx.ConnectError("refused")) as ollama, pytest.raises(MigrateError) as caught:
        ollama.tags()
    assert "http://127.0.0.1:9" in caught.value.message
    assert "ollama serve" in caught.value.hint


def test_late_answer_names_the_path_and_the_limit():
    with failing(httpx.ReadTimeout("late")) as ollama, pytest.raises(MigrateError, match=r"/api/ps in 10 s"):
        ollama.ps()


def test_server_error_carries_its_words():
    with (
        door({"/api/ps": httpx.Response(500, json={"error": "boom"})}) as ollama,
        pytest.raises(MigrateError) as caught,
    ):
        ollama.ps()
    assert "boom" in caught.value.evidence


def test_lists_per_layer_are_asked_for_where_ollama_leaves_them_out():
    """Without `verbose` lists are null: KV heads per layer then decide whether a hybrid fits."""
    terse = {"general.architecture": "granitehybrid", "granitehybrid.block_count": 4,
             "granitehybrid.attention.head_count_kv": None, "tokenizer.ggml.tokens": None}  # fmt: skip
    whole = terse | {"granitehybrid.attention.head_count_kv": [0, 0, 4, 0], "tokenizer.ggml.tokens": ["a"] * 5000}
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        asked.append(body.get("verbose", False))
        return httpx.Response(200, json={"model_info": whole if body.get("verbose") else terse})

    with Ollama("http://ollama.test:11434", transport=httpx.MockTransport(answer)) as ollama:
        found = _model(ollama, Tag("granite4:tiny-h", 1, "", ""))
    assert found.architecture["granitehybrid.attention.head_count_kv"] == [0, 0, 4, 0]
    assert found.architecture["tokenizer.ggml.tokens"] is None
    assert asked == [False, True]


def test_a_server_that_will_not_tell_all_has_still_told_most():
    terse = {"general.architecture": "lfm2", "lfm2.attention.head_count_kv": None}

    def answer(request: httpx.Request) -> httpx.Response:
        verbose = json.loads(request.content).get("verbose")
        return httpx.Response(500, json={"error": "no"}) if verbose else httpx.Response(200, json={"model_info": terse})

    with Ollama("http://ollama.test:11434", transport=httpx.MockTransport(answer)) as ollama:
        assert _model(ollama, Tag("lfm2:24b", 1, "", "")).architecture == terse


@pytest.mark.parametrize(
    ("key", "sent"),
    [("sk-1", "Bearer sk-1"), (" sk-1 \n", "Bearer sk-1"), ("", None), ("a\nb", None), ("schlüssel", None)],
)
def test_a_key_goes_with_every_request(monkeypatch, key, sent):
    monkeypatch.setenv("OLLAMA_API_KEY", key)
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("Authorization"))
        return httpx.Response(200, json={"version": "0.32.15"})

    with Ollama("http://ollama.test:11434", transport=httpx.MockTransport(answer)) as ollama:
        ollama.version()
    assert seen == [sent]


def test_who_asks_for_a_key_is_told_how_to_give_it():
    refused = httpx.Response(401, json={"error": "a key is needed"}, headers={"WWW-Authenticate": "Bearer"})
    with door({"/api/version": refused}) as ollama, pytest.raises(MigrateError) as caught:
        ollama.version()
    assert "OLLAMA_API_KEY=KEY" in caught.value.hint
