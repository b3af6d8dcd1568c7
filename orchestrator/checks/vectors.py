"""Embeddings of both sides for the same inputs: an index built with one is of use with the other only if they agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from orchestrator.checks import Judgement, Verdict
from orchestrator.clients.openai import OpenAI
from orchestrator.errors import MigrateError

INPUTS = (
    "The quick brown fox jumps over the lazy dog.",
    "How do I reset my password?",
    "Bonjour, où se trouve la gare la plus proche ?",
    "def add(a, b):\n    return a + b",
    "x",
    "Quarterly revenue rose by 4 %, mostly from services; costs stayed flat.",
)


def check_vectors(ollama: OpenAI, vllm: OpenAI, model: str, *, least: float, inputs: Sequence[str] = INPUTS) -> Verdict:
    """Pass when every pair has the same dimension and a cosine of at least `least`."""
    pairs: list[dict[str, Any]] = []
    for text in inputs:
        vectors = []
        for name, side in (("ollama", ollama), ("vllm", vllm)):
            try:
                vectors.append(_vector(side, model, text))
            except (MigrateError, LookupError, TypeError) as error:
                result: Judgement = "fail" if name == "vllm" and pairs else "inconclusive"
                summary = f"{name} gave no embedding: {error}"
                return Verdict("vectors", model, result, summary, {"least": least, "pairs": pairs})
        pairs.append({"input": text, "dimensions": [len(one) for one in vectors], "cosine": cosine(*vectors)})
    return judge_vectors(pairs, model, least)


def judge_vectors(pairs: Sequence[dict[str, Any]], model: str, least: float) -> Verdict:
    """The verdict from the records alone."""
    evidence: dict[str, Any] = {"least": least, "pairs": list(pairs)}
    for pair in pairs:
        old, new = pair["dimensions"]
        if old != new:
            return Verdict("vectors", model, "fail", f"vLLM's vectors have {new} dimensions, Ollama's {old}", evidence)
    worst = min((pair["cosine"] for pair in pairs), default=0.0)
    if worst < least:
        summary = f"lowest cosine {worst:.4f}, demanded {least:g}: an index built with Ollama must be made anew"
        return Verdict("vectors", model, "fail", summary, evidence)
    return Verdict("vectors", model, "pass", f"{len(pairs)} inputs, lowest cosine {worst:.4f}", evidence)


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Cosine of the angle between two vectors; 0 when one is null or they differ in length."""
    lengths = math.sqrt(sum(x * x for x in one)) * math.sqrt(sum(x * x for x in other))
    if len(one) != len(other) or not lengths:
        return 0.0
    return sum(a * b for a, b in zip(one, other, strict=True)) / lengths


def _vector(side: OpenAI, model: str, text: str) -> list[float]:
    return [float(x) for x in side.embeddings({"model": model, "input": text})["data"][0]["embedding"]]
