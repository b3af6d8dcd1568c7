"""Figures of the articles are printed as theirs: source, hardware, date, and nearest to the load."""

from __future__ import annotations

import pytest

from orchestrator.decide.cited import cited
from orchestrator.decide.tuning import tuning
from orchestrator.decide.verdict import decide
from orchestrator.decide.verdict.citations import HEADING, advice_lines, figure_lines
from orchestrator.decide.verdict.text import tuning_lines, verdict_lines
from orchestrator.facts import Facts, Gpu, OllamaFacts, Spread, Traffic

GPU = Gpu("0", "u", "card", 24 << 30, 24 << 30, 8.9)


@pytest.mark.parametrize(("at_once", "what"), [
    (None, "Llama 3.1 8B, 1 user"), (0, "Llama 3.1 8B, 1 user"), (1, "Llama 3.1 8B, 1 user"), (9, "Llama 3.1 8B, 10 users"),
    (40, "Llama 3.1 8B, 50 users"), (10**6, "Llama 3.1 8B, 50 users"),
])  # fmt: skip
def test_the_nearest_figure_of_an_article(at_once: float | None, what: str) -> None:
    line = next(one for one in figure_lines(at_once) if one.startswith("S4"))
    assert line.startswith("S4 (RTX 4090; undated, cites SitePoint of 2026-03-05): ")
    assert what in line


def test_one_figure_for_an_article_and_each_says_hardware_and_date() -> None:
    for at_once in (None, 1, 4, 12, 128):
        lines = figure_lines(at_once)
        ids = [line[:2] for line in lines]
        assert ids == sorted(set(ids))
        for line in lines:
            source = cited().sources[line[:2]]
            assert source.date in line
            assert "hardware not stated" in line or any(word in line for word in ("RTX 4090", "A100", "arithmetic", "Red Hat"))


def test_a_band_that_holds_the_load_is_nearest() -> None:
    assert any("4-10 at once: Ollama 2-45 s" in one for one in figure_lines(7))


def test_advice_concerns_what_is_at_issue_and_says_what_was_checked() -> None:
    assert not any("MLX" in one for one in advice_lines("ollama", ["OLLAMA_NUM_PARALLEL"]))
    assert any("MLX" in one for one in advice_lines("ollama"))
    assert all("Checked: " in one for one in (*advice_lines("ollama"), *advice_lines("vllm")))
    assert any("--enable-prefix-caching" in one for one in advice_lines("vllm"))


def test_verdict_and_tuning_print_them_under_their_heading() -> None:
    facts = Facts(OllamaFacts("http://x", "0.32.6"), (GPU,), traffic=Traffic(source="stated", concurrency=Spread(0, peak=30)))
    text = "\n".join(verdict_lines(decide(facts)))
    assert text.count(HEADING) == 2
    assert "920 tok/s" in " ".join(text.split())
    assert HEADING in "\n".join(tuning_lines(tuning(facts)))
    few = Facts(OllamaFacts("http://x", "0.32.6"), (GPU,), traffic=Traffic(source="stated", concurrency=Spread(0, peak=1)))
    assert "\n".join(verdict_lines(decide(few))).count(HEADING) == 1
