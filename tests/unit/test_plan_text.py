"""The plan for people answers seven questions in order, within 100 columns."""

from __future__ import annotations

from orchestrator.decide.plan_text import WIDTH, Report, readable

HEADINGS = [
    "Verdict", "What will run where", "How much VRAM each gets, and why", "What changes for my clients",
    "How long it takes", "How do I go back", "What stays on Ollama", "Next",
]


def headings(text):
    return [line for line in text.splitlines() if line and not line.startswith(" ")]


def test_every_question_is_answered_in_order_even_with_nothing_known():
    text = readable(Report(""))
    assert headings(text) == HEADINGS
    for section in text.split("\n\n"):
        assert len(section.splitlines()) > 1


def test_what_was_computed_is_printed_in_its_section():
    report = Report(
        "Migrate", why=("12 at once",), where=("a -> one",), vram=("7 + 5 <= 24 GiB",), clients=("logprobs differ",),
        time=("cutover  3 min",), back=("migrate rollback",), stays=("b: no repository",), next="migrate up",
    )
    sections = {part.splitlines()[0]: part for part in readable(report).split("\n\n")}
    wanted = ["12 at once", "a -> one", "7 + 5", "logprobs", "3 min", "rollback", "b: no", "migrate up"]
    for heading, text in zip(HEADINGS, wanted, strict=True):
        assert text in sections[heading]


def test_wide_lines_wrap_and_aligned_ones_stay():
    aligned = "a      b      c"
    text = readable(Report("Migrate " + "word " * 60, time=(aligned,), stays=("x" * 250, "a\nb\n\nc")))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert f"  {aligned}" in text.splitlines()
    assert headings(text) == HEADINGS
