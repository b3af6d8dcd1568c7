"""The note to the team says what the spec and the evidence say, and nothing else."""

from __future__ import annotations

import dataclasses

from orchestrator.decide.notice import notice
from orchestrator.facts import Facts, OllamaFacts, Traffic
from orchestrator.spec import parse_spec

FACTS = Facts(OllamaFacts("http://127.0.0.1:11434", "0.32.6"))
SPEC = """
name: team
accelerator: cpu
engines: {llama: {repo: meta-llama/Llama-3.1-8B-Instruct, max_model_len: 4096}}
routes: {"llama3.1:8b": {engine: llama}, nomic: {}}
cutover: {steps: [20, 100], bake: 2m, lease: 7s, thresholds: {error_rate: 0.005, ttft_ratio: null, e2e_ratio: 4, ttft_p95: 800ms}}
takeover: {when_busy: %s, redirect: %s}
"""


def said(facts: Facts = FACTS, eta: dict | None = None, busy: str = "cut", redirect: str = "true") -> str:
    return " ".join(notice(parse_spec(SPEC % (busy, redirect)), facts, eta).split())


def test_triggers_are_the_specs() -> None:
    text = said()
    assert "more than 0.5 % of requests" in text
    assert "p95 time to first token is over 800 ms" in text
    assert "total time is over 4 times" in text
    assert "median time to first token" not in text
    assert "silent for 7 s" in text


def test_models_steps_context_and_the_way_back() -> None:
    text = said()
    assert "llama3.1:8b will be served by vLLM" in text
    assert "nomic stays on Ollama" in text
    assert "20 % -> 100 %" in text
    assert "4 min to 20 min" in text
    assert "4,096 tokens" in text
    assert "migrate rollback --restore" in text
    assert "re-index" not in text


def test_window_comes_from_the_log_or_is_left_to_the_user() -> None:
    busy = dataclasses.replace(FACTS, traffic=Traffic(source="log", peak_by_hour={"03": 1, "04": 1, "10": 9}))
    assert "Quietest hours in log: 03:00, 04:00, with 1 at once" in said(busy)
    assert "not known" in said()


def test_durations_are_ranges_words_or_absent() -> None:
    text = said(eta={"Download": (60, 600.0), "Start": 95, "Load test": "as long as a coffee", "Other": None})
    assert "Download: 60 s to 10 min" in text
    assert "Start: 2 min" in text
    assert "coffee" in text
    assert "Other" not in text
    assert "not estimated" in said()


def test_take_over_is_told_as_it_is_set() -> None:
    assert "what runs longer is cut" in said()
    assert "take-over is undone" in said(busy="abort")
    assert "refused for a few seconds" in said(redirect="false")
