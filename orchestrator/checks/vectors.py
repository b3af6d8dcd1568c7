"""Embeddings of both sides for the same inputs: an index built with one is of use with the other only if they agree."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from orchestrator.checks import Judgement, Verdict
from orchestrator.clients.openai import OpenAI
from orchestrator.errors import MigrateError

INPUTS = (
    "The quick brown fox jumps over the lazy dog.",
    "How do I reset my password?",
    "I have forgotten the word that lets me in. What now?",
    "Bonjour, où se trouve la gare la plus proche ?",
    "비밀번호를 어떻게 재설정하나요?",
    "كيف أعيد تعيين كلمة المرور؟",
    "def add(a, b):\n    return a + b",
    "x",
    "SELECT name FROM customers WHERE city = 'Porto';",
    "Quarterly revenue rose by 4 %, mostly from services; costs stayed flat.",
    "   blanks   and\ttabs\n\nand empty lines   ",
    "The harbour was dredged in spring, and the ferry came back. " * 6,
)
EQUAL = 0.9999          # a cosine from here on is rounding
_NORM_APART = 0.01      # relative: a dot product would say something else
_AGAIN = 3              # inputs asked twice: how steady a side is
REINDEX = "what is stored must be indexed anew with vLLM's vectors before it is searched with them"
_STAYS = "equal: stored vectors stay valid"


def check_vectors(ollama: OpenAI, vllm: OpenAI, model: str, *, least: float, inputs: Sequence[str] = INPUTS) -> Verdict:
    """Pass when every pair has the same dimension and length, and a cosine of at least `least`."""
    return recompute(measure_vectors(ollama, vllm, model, least=least, inputs=inputs))


def measure_vectors(
    ollama: OpenAI, vllm: OpenAI, model: str, *, least: float, inputs: Sequence[str] = INPUTS
) -> list[dict[str, Any]]:
    """Ask both sides and return the raw lines: the plan, a `vector` per side and input, `lost` where one gave none."""
    lines: list[dict[str, Any]] = [{"kind": "plan", "check": "vectors", "target": model, "least": least}]
    for text in [*inputs, *inputs[:_AGAIN]]:
        for name, side in (("ollama", ollama), ("vllm", vllm)):
            try:
                vector = _vector(side, model, text)
            except (MigrateError, LookupError, TypeError, ValueError) as error:
                return [*lines, {"kind": "lost", "side": name, "why": str(error) or type(error).__name__}]
            lines.append({"kind": "vector", "side": name, "input": text, "vector": vector})
    return lines


def recompute(lines: Iterable[dict[str, Any]]) -> Verdict:
    """The verdict from the raw lines alone; ValueError where they are not of this check."""
    lines = list(lines)
    plan = next((line for line in lines if line.get("kind") == "plan"), None)
    if plan is None or plan.get("check") != "vectors":
        raise ValueError("these lines have no plan of a check of vectors")
    given: dict[str, dict[str, list[list[float]]]] = {}
    for line in lines:
        if line["kind"] == "vector":
            given.setdefault(line["input"], {}).setdefault(line["side"], []).append(line["vector"])
    pairs = [_pair(text, sides) for text, sides in given.items() if len(sides) == 2]
    lost = next((line for line in lines if line["kind"] == "lost"), None)
    if lost is None:
        verdict = judge_vectors(pairs, plan["target"], plan["least"])
        verdict.evidence["neighbours"] = _neighbours(list(given.values()))
        return verdict
    result: Judgement = "fail" if lost["side"] == "vllm" and pairs else "inconclusive"
    summary = f"{lost['side']} gave no embedding: {lost['why']}"
    return Verdict("vectors", plan["target"], result, summary, {"least": plan["least"], "pairs": pairs})


def judge_vectors(pairs: Sequence[dict[str, Any]], model: str, least: float) -> Verdict:
    """The verdict from the records alone."""
    evidence: dict[str, Any] = {"least": least, "pairs": list(pairs)}
    result, said = _judged(pairs, least)
    return Verdict("vectors", model, result, said, evidence)


def rejudge(evidence: dict[str, Any]) -> tuple[Judgement, str]:
    """The result and its reason again, from the evidence of a verdict that was reached."""
    return _judged(evidence["pairs"], evidence["least"])


def _judged(pairs: Sequence[dict[str, Any]], least: float) -> tuple[Judgement, str]:
    if not pairs:
        return "inconclusive", "no input was answered by both sides"
    for pair in pairs:
        old, new = pair["dimensions"]
        if old != new:
            return "fail", f"vLLM's vectors have {new} dimensions, Ollama's {old}: {REINDEX}"
        if pair["cosine"] is None:
            return "fail", f"a vector of {pair['input'][:40]!r} holds something that is no number"
        if 0.0 in pair.get("norms", ()):
            return "fail", f"a vector of {pair['input'][:40]!r} is all zeros"
    own = min((one for pair in pairs for one in pair.get("own", {}).values() if one is not None), default=1.0)
    worst, norm = min(pair["cosine"] for pair in pairs), max(map(_apart, pairs))
    if own < least:
        return "inconclusive", f"a side does not agree with itself (cosine {own:.4f} when asked twice)"
    if worst < least:
        return "fail", f"lowest cosine {worst:.4f}, demanded {least:g}: {REINDEX}"
    if norm > _NORM_APART:
        old, new = max(pairs, key=_apart)["norms"]
        return "fail", f"vLLM's vectors have length {new:.3g}, Ollama's {old:.3g}: dot products differ, and {REINDEX}"
    after = _STAYS if worst >= EQUAL else f"close, not equal: {REINDEX}"
    return "pass", f"{len(pairs)} inputs, lowest cosine {worst:.4f}; {after}"


def _pair(text: str, sides: dict[str, list[list[float]]]) -> dict[str, Any]:
    old, new = sides["ollama"][0], sides["vllm"][0]
    own = {name: _finite(cosine(*given[:2])) for name, given in sides.items() if len(given) > 1}
    return {"input": text, "dimensions": [len(old), len(new)], "cosine": _finite(cosine(old, new)),
            "norms": [_finite(_norm(old)), _finite(_norm(new))], "own": own}  # fmt: skip


def _apart(pair: dict[str, Any]) -> float:
    """How far the lengths lie apart, relative to Ollama's; records of before had none."""
    old, new = pair.get("norms", (1.0, 1.0))
    return abs(new - old) / old if old and new is not None else 0.0


def _neighbours(sides: Sequence[dict[str, list[list[float]]]]) -> dict[str, int] | None:
    """Of how many inputs both sides, each among its own vectors, find the same nearest one: information."""
    old, new = ([one[name][0] for one in sides if len(one) == 2] for name in ("ollama", "vllm"))
    if len(old) < 3:
        return None
    return {"same": sum(_nearest(old, at) == _nearest(new, at) for at in range(len(old))), "of": len(old)}


def _nearest(vectors: Sequence[Sequence[float]], at: int) -> int:
    others = [other for other in range(len(vectors)) if other != at]
    return max(others, key=lambda other: cosine(vectors[at], vectors[other]))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _norm(vector: Sequence[float]) -> float:
    return math.sqrt(sum(x * x for x in vector))


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Cosine of the angle between two vectors; 0 when one is null or they differ in length."""
    lengths = _norm(one) * _norm(other)
    if len(one) != len(other) or not lengths:
        return 0.0
    return sum(a * b for a, b in zip(one, other, strict=True)) / lengths


def _vector(side: OpenAI, model: str, text: str) -> list[float]:
    return [float(x) for x in side.embeddings({"model": model, "input": text})["data"][0]["embedding"]]
