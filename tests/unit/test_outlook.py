"""What a plan tells people: their clients change nothing, what is only nearly the same, and the ways back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.decide import outlook
from orchestrator.facts import Caller, Facts, OllamaFacts, Traffic
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
    assert "migrate plan --scan PATH" in text


NUM_CTX = "no effect on vLLM: the context is the engine's max_model_len"


def caller(path: str, line: int, kind: str = "url", text: str = "x", note: str = "") -> Caller:
    return Caller(path, line, kind, text, works=not note, note=note or "keeps working: the gateway has Ollama's address")


def told(callers: list[Caller], scanned: int | None = 40, **traffic: Any) -> str:
    seen = Traffic(**{"source": "log", "callers": {"10.0.0.1": 3}, **traffic}) if traffic else Traffic()
    return "\n".join(outlook.clients(spec(), Facts(OllamaFacts("", ""), traffic=seen, callers=tuple(callers), scanned=scanned)))


def test_a_scan_says_how_many_places_and_names_those_that_would_not_work() -> None:
    places = [caller("a.py", 3), caller("a.py", 9, "native", note=NUM_CTX), caller("b.py", 1, note=NUM_CTX),
              caller("c.md", 1, "doc", note=NUM_CTX), caller("d.sh", 4, "command", note="past the gateway")]
    text = told(places)
    assert "source: 4 places in 3 files talk to Ollama (40 files read): 1 keeps working unchanged, 3 would not" in text
    assert f"a.py:9, b.py:1: {NUM_CTX}" in text
    assert "d.sh:4: past the gateway" in text
    assert "c.md" not in text
    assert "who calls is not known" not in text


def test_a_scan_without_a_find_and_one_where_all_works() -> None:
    assert "no place in the source that was scanned talks to Ollama (1 file read)" in told([], 1)
    assert "2 places in 1 file talk to Ollama (40 files read): all keep working" in told([caller("a", 1), caller("a", 2)])


def test_many_places_are_counted_not_listed() -> None:
    text = told([caller("a.py", at, note=NUM_CTX) for at in range(1, 21)])
    assert "a.py:6 and 14 more (migrate scan PATH lists them)" in text
    assert "a.py:7" not in text


def test_a_condition_of_what_works_is_told() -> None:
    works = Caller("compose.yaml", 8, "env", "OLLAMA_HOST=http://ollama:11434", works=True, note="works when this client is near")
    assert "compose.yaml:8: works when this client is near" in told([works])


@pytest.mark.parametrize(("callers", "native", "said"), [
    ([caller("a.py", 1, "v1", "/v1/chat/completions")], 0.8, "80% of the log's requests speak the native API"),
    ([caller("a.py", 1, "native", "/api/chat")], 0.8, "20% of the log's requests go to /v1"),
    ([], 1.0, "100% of the log's requests speak the native API"),
    ([caller("a.py", 1, "sdk", "import ollama"), caller("a.py", 1, "url", "http://h:11434/v1")], 0.5, ""),
    ([caller("a.py", 1, "url", "http://h:11434")], 0.5, ""),        # an address alone may be either's
    ([caller("a.py", 1, "v1", "/v1/models")], 0.03, ""),            # somebody's try
])
def test_traffic_that_no_scanned_place_explains(callers, native, said) -> None:
    text = told(callers, native=native)
    assert said in text
    assert ("outside of what was scanned" in text) == bool(said)


def test_with_a_log_alone_the_scan_is_offered() -> None:
    text = told([], None, native=0.5)
    assert "1 caller seen; 50%" in text
    assert "migrate plan --scan PATH" in text


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
