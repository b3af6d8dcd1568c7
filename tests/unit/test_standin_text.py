"""The pretended models: one text for one prompt, on both sides, cut where the request says."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import standin_servers

from orchestrator.standin import grammar, text


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    ollama = standin_servers.ollama(tmp_path_factory.mktemp("models"))
    vllm = standin_servers.vllm("repo/model-8b", "--served-model-name", "llama3.1:8b")
    yield ollama, vllm
    ollama.stop()
    vllm.stop()


def spoken(server, **request) -> str:
    body = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "Why is the sky blue?"}], **request}
    status, _, answer = server.post("/v1/chat/completions", body)
    assert status == 200, answer
    return json.loads(answer)["choices"][0]["message"]["content"]


@pytest.mark.parametrize("limit", [1, 7, 20])
def test_both_sides_give_the_same_greedy_text(both, limit: int) -> None:
    ollama, vllm = both
    first = spoken(ollama, temperature=0, max_tokens=limit)
    assert first == spoken(vllm, temperature=0, max_tokens=limit)
    assert len(first.split()) == limit


def test_a_seed_fixes_sampled_text_and_differs_from_greedy(both) -> None:
    ollama, vllm = both
    one = spoken(ollama, temperature=1, seed=5, max_tokens=12)
    assert one == spoken(vllm, temperature=1, seed=5, max_tokens=12)
    assert one != spoken(vllm, temperature=1, seed=6, max_tokens=12)
    assert one != spoken(vllm, temperature=0, max_tokens=12)


def test_native_and_openai_routes_of_ollama_agree(both) -> None:
    ollama, _ = both
    request = {
        "model": "llama3.1:8b",
        "messages": [{"role": "user", "content": "Why is the sky blue?"}],
        "stream": False,
        "options": {"temperature": 0, "num_predict": 9},
    }
    native = json.loads(ollama.post("/api/chat", request)[2])["message"]["content"]
    assert native == spoken(ollama, temperature=0, max_tokens=9)


def test_a_stop_word_ends_the_text_before_it_on_both_sides(both) -> None:
    ollama, vllm = both
    word = spoken(ollama, temperature=0, max_tokens=6).split()[3]
    for server in both:
        cut = spoken(server, temperature=0, max_tokens=20, stop=[word])
        assert word not in cut
        assert len(cut.split()) == 3
    assert spoken(ollama, temperature=0, stop=[word]) == spoken(vllm, temperature=0, stop=[word])


def test_embeddings_have_length_one_and_similar_texts_are_closer() -> None:
    def dot(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    near, same, far = text.vector("the cat sat"), text.vector("the cat ran"), text.vector("quarterly tax law")
    assert dot(near, near) == pytest.approx(1.0)
    assert dot(near, same) > dot(near, far)


SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "n": {"type": "integer", "minimum": 3, "maximum": 5}},
    "required": ["ok", "n"],
}


def test_a_schema_is_obeyed() -> None:
    for seed in range(20):
        value = json.loads(grammar.sample(SCHEMA, random.Random(seed)))
        assert isinstance(value["ok"], bool)
        assert 3 <= value["n"] <= 5


@pytest.mark.parametrize("pattern", ["[0-9]{3}", "(yes|no)", "v[1-9][.]\\d+", "a?b+c*"])
def test_a_regular_expression_is_matched(pattern: str) -> None:
    import re

    for seed in range(20):
        assert re.fullmatch(pattern, grammar.match(pattern, random.Random(seed)))


def test_the_volume_is_shared(tmp_path: Path) -> None:
    first, second = standin_servers.ollama(tmp_path), standin_servers.ollama(tmp_path)
    try:
        first.post("/api/copy", {"source": "llama3.1:8b", "destination": "mine"})
        assert second.post("/api/show", {"model": "mine"})[0] == 200
        assert second.ask("DELETE", "/api/delete", b'{"model":"mine"}')[0] == 200
        assert first.post("/api/show", {"model": "mine"})[0] == 404
    finally:
        first.stop()
        second.stop()
