"""Embeddings of both sides: same dimension and direction, or no move."""

from __future__ import annotations

import json
import random

import httpx
import pytest

from orchestrator.checks.vectors import (
    INPUTS,
    check_vectors,
    cosine,
    judge_vectors,
    measure_vectors,
    recompute,
    rejudge,
)
from orchestrator.clients.openai import OpenAI


def side(vector, status=200):
    def answer(_request):
        value = vector() if callable(vector) else vector
        text = json.dumps({"data": [{"embedding": value}]} if status == 200 else {"error": "no"})
        return httpx.Response(status, text=text)

    return OpenAI("http://side", transport=httpx.MockTransport(answer))


@pytest.mark.parametrize(
    "old, new, result, words",
    [
        ([1.0, 0.0], [1.0, 0.0], "pass", "lowest cosine 1.0000; equal: stored vectors stay valid"),
        ([1.0, 0.0], [0.995, 0.0998], "pass", "close, not equal: what is stored must be indexed anew"),
        ([1.0, 0.0], [2.0, 0.0], "fail", "length 2, Ollama's 1: dot products differ"),
        ([1.0, 0.0], [0.98, 0.199], "fail", "must be indexed anew"),
        ([1.0, 0.0], [float("nan"), 0.0], "fail", "no number"),
        ([0.0, 0.0], [0.0, 0.0], "fail", "all zeros"),
        ([1.0, 0.0], [1.0, 0.2], "fail", "lowest cosine 0.9806"),
        ([1.0, 0.0], [1.0, 0.0, 0.0], "fail", "3 dimensions, Ollama's 2"),
        ([1.0, 0.0], [0.0, 0.0], "fail", "all zeros"),
    ],
)
def test_verdict_follows_the_vectors(old, new, result, words):
    verdict = check_vectors(side(old), side(new), "nomic", least=0.99)
    assert (verdict.result, words in verdict.summary) == (result, True), verdict.summary
    again = judge_vectors(verdict.evidence["pairs"], "nomic", verdict.evidence["least"])
    assert again.result == verdict.result
    assert rejudge(json.loads(json.dumps(verdict.evidence))) == (verdict.result, verdict.summary)


def test_a_side_that_gives_none_gets_no_verdict():
    assert check_vectors(side([1.0], 500), side([1.0]), "m", least=0.9).result == "inconclusive"
    assert check_vectors(side([1.0]), side([1.0], 500), "m", least=0.9).result == "inconclusive"
    for odd in (None, [None], ["x"], 3):
        assert check_vectors(side([1.0]), side(odd), "m", least=0.9).result == "inconclusive"


def test_a_side_that_stops_on_the_way_fails():
    given = iter([[1.0]] * 4)
    verdict = check_vectors(side([1.0]), side(lambda: next(given, None)), "m", least=0.9)
    assert (verdict.result, len(verdict.evidence["pairs"])) == ("fail", 4)


def test_a_side_that_is_not_itself_when_asked_twice_gets_no_verdict():
    given = iter([[1.0, 0.0]] * len(INPUTS))
    verdict = check_vectors(side([1.0, 0.0]), side(lambda: next(given, [0.0, 1.0])), "m", least=0.9)
    assert verdict.result == "inconclusive"
    assert "does not agree with itself" in verdict.summary


def test_the_verdict_follows_from_its_raw_lines():
    rng = random.Random(1)
    draw = lambda: [rng.gauss(0, 1) for _ in range(16)]  # noqa: E731
    lines = measure_vectors(side(draw), side(draw), "m", least=0.9)
    verdict = recompute(lines)
    assert verdict.result == "inconclusive"
    assert recompute(json.loads(json.dumps(lines))) == verdict
    assert verdict.evidence["neighbours"]["of"] == len(INPUTS)
    for odd in ([], [{"kind": "plan", "check": "parity"}]):
        with pytest.raises(ValueError, match="no plan"):
            recompute(odd)


def test_cosine():
    assert cosine([1, 0], [0, 1]) == 0
    assert cosine([3, 4], [3, 4]) == pytest.approx(1)
    assert cosine([1, 1], [-1, -1]) == pytest.approx(-1)
    assert cosine([1], [1, 1]) == 0
