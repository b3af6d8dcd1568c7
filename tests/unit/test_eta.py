"""How long: ranges follow sizes, speeds and the spec, and say what was assumed."""

from __future__ import annotations

import pytest

from orchestrator.decide.eta import Eta, Known, duration, estimate, lines, span
from orchestrator.spec import parse_spec

SPEC = """
name: main
accelerator: cpu
ollama: {container: ollama}
engines: {one: {repo: org/one}}
routes: {"llama3.1:8b": {engine: one}}
cutover: {steps: [10, 50, 100], bake: 60s, patience: 10m}
"""


def phases(text=SPEC, **known):
    known.setdefault("weights", {"one": 5_000_000_000})
    return {eta.phase: eta for eta in estimate(parse_spec(text), Known(**known))}


def test_every_phase_is_there_in_order():
    assert list(phases()) == [
        "download", "images", "take-over", "vLLM start", "healthcheck", "parity", "load test", "cutover", "rollback",
    ]


def test_a_measured_link_gives_one_figure_and_an_assumed_one_a_range():
    assert (phases(link=50e6)["download"].low_s, phases(link=50e6)["download"].high_s) == (100, 100)
    guessed = phases()["download"]
    assert (guessed.low_s, guessed.high_s) == (40, 400)
    assert "assumed" in guessed.why


@pytest.mark.parametrize("link", [0, -1, float("nan"), float("inf")])
def test_a_speed_that_cannot_be_is_not_used(link):
    assert "assumed" in phases(link=link)["download"].why


def test_an_unknown_size_is_said():
    told = phases(weights={})["download"]
    assert told.high_s is None
    assert "org/one" in told.why
    assert phases()["images"].high_s is None


def test_two_engines_of_one_repository_fetch_it_once():
    text = SPEC.replace("{one: {repo: org/one}}", "{one: {repo: org/one}, two: {repo: org/one}}")
    text = text.replace("{engine: one}}", '{engine: one}, "b": {engine: two}}')
    told = phases(text, weights={"one": 100_000_000, "two": 100_000_000}, link=1e6)
    assert told["download"].high_s == 100


def test_cutover_is_steps_times_bake_and_at_most_steps_times_patience():
    told = phases()["cutover"]
    assert (told.low_s, told.high_s) == (180, 1800)


def test_without_a_container_nothing_is_taken_over():
    assert "take-over" not in phases(SPEC.replace("ollama: {container: ollama}", "ollama: {}"))


def test_nothing_that_moves_has_no_gates():
    assert list(phases("name: main\n")) == ["download", "images"]


def test_ranges_are_never_upside_down():
    for eta in phases(tokens=1e-3).values():
        assert eta.high_s is None or eta.low_s <= eta.high_s


def test_words():
    assert [duration(s) for s in (0, 1.2, 89, 90, 3600, 7200)] == ["0 s", "2 s", "89 s", "2 min", "60 min", "2 h"]
    assert span(Eta("x", 0, None, "")) == "unknown"
    assert lines([]) == []
    assert lines([Eta("a", 1, 2, "why")]) == ["a  1 s to 2 s  why"]
