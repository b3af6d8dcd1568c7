"""Embeddings of both sides: same dimension and direction, or no move."""

from __future__ import annotations

import httpx
import pytest

from orchestrator.checks.vectors import check_vectors, cosine, judge_vectors
from orchestrator.clients.openai import OpenAI


def side(vector, status=200):
    def answer(_request):
        return httpx.Response(status, json={"data": [{"embedding": vector}]} if status == 200 else {"error": "no"})

    return OpenAI("http://side", transport=httpx.MockTransport(answer))


@pytest.mark.parametrize(
    "old, new, result, words",
    [
        ([1.0, 0.0], [2.0, 0.0], "pass", "lowest cosine 1.0000"),
        ([1.0, 0.0], [1.0, 0.2], "fail", "lowest cosine 0.9806"),
        ([1.0, 0.0], [1.0, 0.0, 0.0], "fail", "3 dimensions, Ollama's 2"),
        ([1.0, 0.0], [0.0, 0.0], "fail", "lowest cosine 0.0000"),
    ],
)
def test_verdict_follows_the_vectors(old, new, result, words):
    verdict = check_vectors(side(old), side(new), "nomic", least=0.99)
    assert (verdict.result, words in verdict.summary) == (result, True), verdict.summary
    again = judge_vectors(verdict.evidence["pairs"], "nomic", verdict.evidence["least"])
    assert again.result == verdict.result


def test_a_side_that_gives_none_gets_no_verdict():
    assert check_vectors(side([1.0], 500), side([1.0]), "m", least=0.9).result == "inconclusive"
    assert check_vectors(side([1.0]), side([1.0], 500), "m", least=0.9).result == "inconclusive"


def test_cosine():
    assert cosine([1, 0], [0, 1]) == 0
    assert cosine([3, 4], [3, 4]) == pytest.approx(1)
    assert cosine([1, 1], [-1, -1]) == pytest.approx(-1)
    assert cosine([1], [1, 1]) == 0
