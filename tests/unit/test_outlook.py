"""What a plan tells people: their clients change nothing, what is only nearly the same, and the ways back."""

from __future__ import annotations

import json

from orchestrator.decide import outlook
from orchestrator.facts import Facts, OllamaFacts, Traffic
from orchestrator.spec import Spec, parse_spec

SEEN = Facts(OllamaFacts("", ""), traffic=Traffic(source="log", callers={"10.0.0.1": 3, "10.0.0.2": 1}, native=0.75))


def spec(kind: str = "generate", **more: object) -> Spec:
    engine = {"repo": "Qwen/Qwen2.5-7B-Instruct", "gpus": ["0"], "max_model_len": 6144}
    routes = {"qwen2.5:7b": {"engine": "e", "kind": kind}}
    return parse_spec(json.dumps({"name": "one", "engines": {"e": engine}, "routes": routes, **more}))


def test_the_address_and_the_callers_are_named() -> None:
    text = "\n".join(outlook.clients(spec(gateway={"listen": "10.1.2.3", "port": 8123}), SEEN))
    assert "10.1.2.3:8123" in text
    assert "2 callers" in text
    assert "75%" in text
    assert "qwen2.5:7b 6144 tokens" in text


def test_unknown_callers_are_said_to_be_unknown() -> None:
    text = "\n".join(outlook.clients(spec(), Facts(OllamaFacts("", ""))))
    assert "not known" in text
    assert "migrate scan" in text


def test_only_a_moving_embedding_model_asks_for_a_new_index() -> None:
    assert "re-index" in "\n".join(outlook.clients(spec("embedding"), SEEN))
    assert "re-index" not in "\n".join(outlook.clients(spec(), SEEN))


def test_the_thresholds_of_the_spec_are_those_that_go_back() -> None:
    text = "\n".join(outlook.way_back(spec(cutover={"thresholds": {"error_rate": 0.07, "ttft_ratio": 2.5}})))
    assert "more than 7 % of requests" in text
    assert "time to first token is over 2.5 times Ollama's" in text
    assert "total time is over 3 times Ollama's" in text
    assert "migrate rollback --restore" in text


def test_nothing_to_migrate_has_nothing_to_go_back_from() -> None:
    assert outlook.way_back(parse_spec('{"name": "one"}')) == ["nothing to go back from"]
