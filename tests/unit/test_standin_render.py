"""What both stand-ins show of their prompts, and that their log-probabilities follow the temperature."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import standin_servers

from orchestrator.checks.contract.temperature import estimate
from orchestrator.standin import text
from orchestrator.standin.backend import Backend

MODEL = "llama3.1:8b"
TOOL = {"type": "function", "function": {"name": "river_level", "parameters": {"type": "object", "properties": {}}}}
SAID = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "안녕, who are you?"}]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    ollama = standin_servers.ollama(tmp_path_factory.mktemp("models"))
    vllm = standin_servers.vllm("repo/model-8b", "--served-model-name", MODEL)
    yield ollama, vllm
    ollama.stop()
    vllm.stop()


def ask(server, path: str, **body) -> dict:
    status, _, answer = server.post(path, {"model": MODEL, **body})
    assert status == 200, answer
    return json.loads(answer)


@pytest.mark.parametrize("tools", [None, [TOOL]])
def test_both_show_the_same_prompt_and_read_back_their_tokens(both, tools) -> None:
    ollama, vllm = both
    more = {"tools": tools} if tools else {}
    shown = ask(ollama, "/api/chat", messages=SAID, stream=False, _debug_render_only=True, **more)
    found = ask(vllm, "/tokenize", messages=SAID, return_token_strs=True, **more)
    prompt = ask(vllm, "/detokenize", tokens=found["tokens"])["prompt"]
    assert shown["_debug_info"]["rendered_template"] == prompt
    assert len(found["token_strs"]) == found["count"]
    assert ("river_level" in prompt) == bool(tools)


def test_the_tokens_shown_are_those_counted(both) -> None:
    ollama, vllm = both
    count = ask(vllm, "/tokenize", messages=SAID)["count"]
    assert ask(vllm, "/v1/chat/completions", messages=SAID, max_tokens=1)["usage"]["prompt_tokens"] == count
    told = ask(ollama, "/api/chat", messages=SAID, stream=False, options={"num_predict": 1})
    assert told["prompt_eval_count"] == count


def test_no_two_tokens_share_a_number() -> None:
    vocabulary = text.Vocabulary()
    words = ["ab", "ba", "a", "b", "abc", "cba", "bac"]
    numbers = [vocabulary.number(word) for word in words]
    assert len(set(numbers)) == len(words)
    assert [vocabulary.token(number) for number in numbers] == words
    assert [vocabulary.number(word) for word in words] == numbers


def test_a_turn_ends_as_the_environment_says(monkeypatch) -> None:
    assert text.render([{"role": "user", "content": "x"}]) == "<|user|>x<|assistant|>"
    monkeypatch.setenv("STANDIN_TURN_END", "<|end|>")
    assert text.render([{"role": "user", "content": "x"}]) == "<|user|>x<|end|><|assistant|>"


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("temperature", [0, 0.4, 1.0])
def test_log_probabilities_follow_the_temperature(both, side: int, temperature: float) -> None:
    draws = []
    for number in range(6):
        said = [{"role": "user", "content": f"Tell a story about {number}."}]
        answer = ask(both[side], "/v1/chat/completions", messages=said, max_tokens=40, temperature=temperature,
                     logprobs=True, top_logprobs=20)
        for token in answer["choices"][0]["logprobs"]["content"]:
            listed = [one["logprob"] for one in token["top_logprobs"]]
            assert token["logprob"] in listed
            assert listed == sorted(listed, reverse=True)
            draws.append((token["logprob"], listed))
    found = estimate(draws)
    if temperature:
        assert abs(found.cold - 1 / temperature) < 4 * found.error
    else:
        assert found.greedy


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_over_an_engine_the_prompt_is_the_engines(both, tmp_path, path: str) -> None:
    over = standin_servers.ollama(tmp_path, backend=Backend(both[1].url))
    try:
        shown = ask(over, path, messages=SAID, tools=[TOOL], stream=False, _debug_render_only=True)
    finally:
        over.stop()
    tokens = ask(both[1], "/tokenize", messages=SAID, tools=[TOOL])["tokens"]
    assert shown["_debug_info"]["rendered_template"] == ask(both[1], "/detokenize", tokens=tokens)["prompt"]
